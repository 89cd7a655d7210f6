//! Variables that decide what programs load, whom they trust or through whom they connect.

/// By their whole names. Of the C library they are those that it ignores in programs with rights of their own (`sysdeps/generic/unsecvars.h`),
/// without those that name folders for data alone.
const NAMES: &[&str] = &[
    // The C library.
    "GCONV_PATH",
    "GETCONF_DIR",
    "GLIBC_TUNABLES",
    "HOSTALIASES",
    "LOCALDOMAIN",
    "LOCPATH",
    "MALLOC_TRACE",
    "NIS_PATH",
    "NLSPATH",
    "RESOLV_HOST_CONF",
    "RES_OPTIONS",
    // Shells, and programs that others call.
    "BASHOPTS",
    "BASH_ENV",
    "BROWSER",
    "EDITOR",
    "ENV",
    "IFS",
    "LESSCLOSE",
    "LESSOPEN",
    "MANPAGER",
    "PAGER",
    "PATH",
    "PROMPT_COMMAND",
    "PS4",
    "SHELL",
    "SHELLOPTS",
    "SUDO_ASKPASS",
    "SSH_ASKPASS",
    "VISUAL",
    "ZDOTDIR",
    // Interpreters.
    "CLASSPATH",
    "DENO_CERT",
    "DENO_TLS_CA_STORE",
    "GEM_HOME",
    "GEM_PATH",
    "GOFLAGS",
    "GOINSECURE",
    "GONOSUMDB",
    "GOPRIVATE",
    "GOSUMDB",
    "JAVA_OPTS",
    "JAVA_TOOL_OPTIONS",
    "JDK_JAVA_OPTIONS",
    "MAVEN_OPTS",
    "NODE_EXTRA_CA_CERTS",
    "NODE_OPTIONS",
    "NODE_PATH",
    "NODE_REPL_EXTERNAL_MODULE",
    "NODE_TLS_REJECT_UNAUTHORIZED",
    "NODE_USE_ENV_PROXY",
    "NODE_USE_SYSTEM_CA",
    "PERL5DB",
    "PERL5LIB",
    "PERL5OPT",
    "PERLLIB",
    "PHPRC",
    "PHP_INI_SCAN_DIR",
    "PYTHONBREAKPOINT",
    "PYTHONEXECUTABLE",
    "PYTHONHOME",
    "PYTHONHTTPSVERIFY",
    "PYTHONINSPECT",
    "PYTHONPATH",
    "PYTHONPLATLIBDIR",
    "PYTHONPYCACHEPREFIX",
    "PYTHONSAFEPATH",
    "PYTHONSTARTUP",
    "PYTHONUSERBASE",
    "PYTHONWARNINGS",
    "RUBYLIB",
    "RUBYOPT",
    "RUSTC_WORKSPACE_WRAPPER",
    "RUSTC_WRAPPER",
    "_JAVA_OPTIONS",
    // Whom programs trust.
    "AWS_CA_BUNDLE",
    "CARGO_HTTP_CAINFO",
    "CURL_CA_BUNDLE",
    "CURL_HOME",
    "CURL_SSL_BACKEND",
    "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH",
    "HTTPLIB2_CA_CERTS",
    "PERL_LWP_SSL_CA_FILE",
    "PERL_LWP_SSL_CA_PATH",
    "PERL_LWP_SSL_VERIFY_HOSTNAME",
    "REQUESTS_CA_BUNDLE",
    "SSLKEYLOGFILE",
    "SSL_CERT_DIR",
    "SSL_CERT_FILE",
    "WGETRC",
    // git.
    "GIT_ASKPASS",
    "GIT_EDITOR",
    "GIT_EXEC_PATH",
    "GIT_EXTERNAL_DIFF",
    "GIT_PAGER",
    "GIT_SEQUENCE_EDITOR",
    "GIT_TEMPLATE_DIR",
];

/// By how they begin.
const FAMILIES: &[&str] = &[
    "BASH_FUNC_",
    "BUNDLE_",
    "CARGO_SOURCE_",
    "CARGO_REGISTRIES_",
    "CORECLR_",
    "COR_PROFILER",
    "DOTNET_STARTUP_",
    "GIT_CONFIG",
    "GIT_PROXY_",
    "GIT_SSH",
    "GIT_SSL_",
    "LD_",
    "LUA_",
    "NPM_CONFIG_",
    "OPENSSL_",
    "PIP_",
    "UV_DEFAULT_INDEX",
    "UV_EXTRA_INDEX",
    "UV_INDEX",
    "UV_INSECURE",
    "YARN_",
];

/// Whether a variable is one of them. Proxies are read in upper and lower case, and so are npm's settings.
pub(super) fn steers(name: &str) -> bool {
    let upper = name.to_ascii_uppercase();
    NAMES.contains(&name)
        || upper.ends_with("_PROXY")
        || upper == "GOPROXY"
        || FAMILIES.iter().any(|family| upper.starts_with(family))
}

#[cfg(test)]
mod tests {
    use super::steers;

    #[test]
    fn what_loads_code_names_authorities_or_redirects_is_known_and_what_programs_are_told_is_not() {
        for name in [
            "LD_PRELOAD",
            "LD_LIBRARY_PATH",
            "LD_AUDIT",
            "http_proxy",
            "HTTPS_PROXY",
            "All_Proxy",
            "no_proxy",
            "PATH",
            "BASH_ENV",
            "BASH_FUNC_ls%%",
            "NODE_OPTIONS",
            "NODE_EXTRA_CA_CERTS",
            "NODE_TLS_REJECT_UNAUTHORIZED",
            "PYTHONPATH",
            "PYTHONSTARTUP",
            "SSL_CERT_FILE",
            "REQUESTS_CA_BUNDLE",
            "GIT_SSL_NO_VERIFY",
            "GIT_CONFIG_COUNT",
            "GIT_SSH_COMMAND",
            "npm_config_registry",
            "PIP_INDEX_URL",
            "JAVA_TOOL_OPTIONS",
            "OPENSSL_CONF",
            "GLIBC_TUNABLES",
        ] {
            assert!(steers(name), "{name}");
        }
        for name in [
            "MODEL",
            "OPENAI_BASE_URL",
            "PYTHONUNBUFFERED",
            "NODE_ENV",
            "GIT_AUTHOR_NAME",
            "LANG",
            "TZ",
            "MALLOC_ARENA_MAX",
            "UV_THREADPOOL_SIZE",
            "PROXY",
            "OLD_PATH",
            "HOME",
        ] {
            assert!(!steers(name), "{name}");
        }
    }
}
