// Package jaeger runs a real Jaeger beside a real cluster and looks, through Jaeger's query API, whether what the nodes
// export is what is promised: one append is one trace over all processes, and so is a change of leader. It knows the
// binaries and their command lines, and none of the project's code. `make test-jaeger` builds what it needs and runs it;
// without that its tests are skipped.
package jaeger
