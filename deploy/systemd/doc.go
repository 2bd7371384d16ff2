// Package systemd holds the unit with which systemd runs multiraftd, and checks it: systemd-analyze finds no fault
// in it, and a real daemon starts from the sample configuration and makes no system call that the unit forbids.
//
// It has no code outside its tests. It does not run systemd: whether the sandbox as a whole lets the daemon live can
// only be seen on a machine that systemd has booted.
package systemd
