module vmforksim

go 1.25.0

require (
	github.com/google/uuid v1.6.0
	github.com/vishvananda/netlink v1.3.1
	github.com/vmware/govmomi v0.56.0
	golang.org/x/sys v0.35.0
)

require (
	github.com/vishvananda/netns v0.0.5 // indirect
	gopkg.in/yaml.v3 v3.0.1 // indirect
)
