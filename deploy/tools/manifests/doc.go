// Package manifests checks what deploy/docker, deploy/kubernetes and deploy/grafana hold against the types and parsers of
// those who read them: k8s.io/api, compose-go, BuildKit's Dockerfile parser, Grafana's dashboard model. It also carries
// out the Dockerfile without Docker: the build's commands, and the image as a root directory.
//
// It is a module of its own, so that none of them is a dependency of multiraftd's. It has no code outside its tests, and
// it talks to no cluster and no Docker: that they take what they can read is not shown here.
package manifests
