//go:build race

package main

func init() { freshSeeds = 50 }
