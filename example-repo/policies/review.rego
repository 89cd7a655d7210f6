# What this team lets nobody merge, whatever the host would allow. The input is `tenantd plan --base main --format json`.
package tenantd.review

import rego.v1

# No weaker runtime by a pull request.
deny contains message if {
	some tenant in input.tenants
	some effect in tenant.effects
	effect.rule == "runtime"
	effect.mark == "loosens"
	message := sprintf("%s: runtime %v -> %v is weaker", [tenant.tenant, effect.before, effect.after])
}

# No new wildcard.
deny contains message if {
	some tenant in input.tenants
	some effect in tenant.effects
	effect.rule == "allowlist"
	effect.mark == "loosens"
	startswith(effect.after, "*.")
	message := sprintf("%s: %v is a wildcard; list the names", [tenant.tenant, effect.after])
}

# No more than three tenants loosened at once.
deny contains message if {
	input.totals.loosens > 3
	message := sprintf("%d tenants are loosened at once; three at most", [input.totals.loosens])
}

# No file with errors.
deny contains message if {
	some finding in input.findings
	finding.severity == "error"
	message := sprintf("%s:%d: %s", [finding.file, finding.line, finding.message])
}
