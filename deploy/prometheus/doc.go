// Package prometheus holds the alerts on what a node's /metrics say, with their unit tests for promtool, and a scrape
// configuration. Its own tests run promtool on them; and a real Prometheus, on the alerts and on three real processes
// of which one is killed: the alert fires, it resolves when the node is back, and each query of the dashboards in
// deploy/grafana has returned data by then.
//
// It has no code outside its tests. It does not run Grafana: what is known of the dashboards is that their JSON has
// the parts that Grafana's schema asks for, and that their queries are right.
package prometheus
