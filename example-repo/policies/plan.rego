# What this team lets nobody apply. The input is `tenantd plan --format json`, of a host or of its snapshot.
package tenantd.plan

import rego.v1

containers contains change if {
	some change in input.resource_changes
	change.type == "container"
	change.change.after != null
}

# Nothing of the host is writable but the workspace.
deny contains message if {
	some container in containers
	some mount in container.change.after.mounts
	mount.writable
	mount.target != "/workspace"
	message := sprintf("%s: %s is writable", [container.tenant, mount.target])
}

# No capability, and no root that can be written.
deny contains message if {
	some container in containers
	container.change.after.cap_drop != ["ALL"]
	message := sprintf("%s: capabilities are kept", [container.tenant])
}

deny contains message if {
	some container in containers
	not container.change.after.read_only
	message := sprintf("%s: its root can be written", [container.tenant])
}

# A workspace is not archived without a word.
warn contains message if {
	some change in input.resource_changes
	change.type == "workspace"
	"delete" in change.change.actions
	message := sprintf("%s: its workspace is archived", [change.tenant])
}

# What changed behind tenantd's back is for a person to know.
warn contains message if {
	some drift in input.resource_drift
	message := sprintf("%s has drifted", [drift.address])
}

# Nothing that cannot be done.
deny contains message if {
	some blocked in input.blocked
	message := sprintf("%s: %s", [blocked.tenant, blocked.reason])
}
