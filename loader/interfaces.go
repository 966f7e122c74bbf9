package main

import "net"

// interfaceExists says whether this machine has an interface of that name.
func interfaceExists(name string) bool {
	_, err := net.InterfaceByName(name)
	return err == nil
}
