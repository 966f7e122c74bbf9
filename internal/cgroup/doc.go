// Package cgroup makes control groups for processes of the loader's, on machines of
// cgroup v2, v1, and of both at once (hybrid): each limit is set in the hierarchy that
// has its controller (Documentation/admin-guide/cgroup-v2.rst and cgroup-v1 of the kernel).
package cgroup
