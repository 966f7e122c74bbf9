# What is tried where the programs cannot run.

doctor() {
	/eproxy/bin/loader doctor
}

try doctor doctor
