// Package measure holds the histograms in which every room counts how long things took and how many went
// together.
//
// To record is to add to two atomics: no lock, no allocation, and no clock, which whoever measures brings along.
// The bounds are fixed per type, so that the zero value is ready and the rooms' Counters need no constructor.
//
// It does not know names, labels or where the figures are shown: that is the node's business.
package measure
