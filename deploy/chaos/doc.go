// Command chaos
package main
