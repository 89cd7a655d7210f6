//! The rules by which a tenant cannot be made as declared.

use std::fmt;

use serde::{Serialize, Serializer};

/// Writes down each rule in one row: its name in plans, and the setting that it is about.
macro_rules! obstacles {
    (@setting) => { None };
    (@setting $setting:literal) => { Some($setting) };
    ($($(#[$doc:meta])* $name:ident = $code:literal $(of $setting:literal)?;)*) => {
        /// A rule by which a tenant cannot be made as declared.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Obstacle {
            $($(#[$doc])* $name,)*
        }

        impl Obstacle {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// Its name in plans, statuses, SARIF and JUnit.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => $code,)*
                }
            }

            /// The setting of a tenant's file that it is about, if it is about one.
            pub const fn setting(self) -> Option<&'static str> {
                match self {
                    $(Self::$name => obstacles!(@setting $($setting)?),)*
                }
            }
        }
    };
}

obstacles! {
    /// An object has the tenant's name, and not its label.
    NameTaken = "name-taken";
    /// The host offers no runtime of its class.
    RuntimeNotOffered = "runtime-not-offered" of "runtime";
    /// The engine has not registered the runtime of its class.
    RuntimeNotRegistered = "runtime-not-registered" of "runtime";
    /// The runtime cannot start anything on the engine.
    RuntimeFails = "runtime-fails";
    /// The engine gives other users of the host, with which its class does not work.
    RuntimeNotRemapped = "runtime-not-remapped";
    /// The engine or the kernel cannot enforce a limit.
    LimitUnsupported = "limit-unsupported" of "limits";
    /// A setting of the engine's own weakens it, or keeps it from working.
    EngineSetting = "engine-setting";
    /// The engine confines no system calls.
    SeccompUnsupported = "seccomp-unsupported";
    /// It asks for more than the host's ceilings.
    AboveCeiling = "above-ceiling" of "limits";
    /// The host lets fewer in than it does.
    AccessNotAllowed = "access-not-allowed" of "access";
    /// The host has no shared folder of that name.
    SourceNotOffered = "source-not-offered" of "source";
    /// No addresses are left.
    PoolExhausted = "pool-exhausted";
    /// The engine binds no folder of such a path.
    MountRefused = "mount-refused";
    /// Something of it could not be observed.
    Unobserved = "unobserved";
    /// The engine does not have its image.
    ImageMissing = "image-missing" of "image";
    /// Its image declares volumes.
    ImageVolumes = "image-volumes" of "image";
    /// Nothing can enforce its disk limit.
    DiskUnenforced = "disk-unenforced" of "limits.disk";
    /// Its workspace holds more than the limit.
    DiskInUse = "disk-in-use" of "limits.disk";
    /// A workspace of its name is archived, and its file does not say what becomes of that.
    WorkspaceArchived = "workspace-archived" of "workspace";
    /// The file system of its workspace is damaged.
    WorkspaceDamaged = "workspace-damaged";
    /// Its workspace was there, and is not any more.
    WorkspaceGone = "workspace-gone";
    /// Something else lies in its workspace's place.
    WorkspaceNotAFolder = "workspace-not-a-folder";
    /// The host does not permit a destination of its list.
    DestinationNotPermitted = "destination-not-permitted" of "allowlist";
    /// The host does not have a secret that it names.
    SecretMissing = "secret-missing" of "credentials";
    /// A secret that it names is not for it, or not for that upstream.
    SecretNotGranted = "secret-not-granted" of "credentials";
    /// Its file holds a secret that the host keeps itself.
    SecretNotSealed = "secret-not-sealed" of "credentials";
    /// The engine's networks are not on this host.
    EngineElsewhere = "engine-elsewhere";
    /// The gateway's namespace is not there.
    GatewayMissing = "gateway-missing";
    /// The gateway's folder or namespace is another data root's.
    EgressTaken = "egress-taken";
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for Obstacle {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}
