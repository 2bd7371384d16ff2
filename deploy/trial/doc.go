// Package trial is one measurement and what is made of many: three processes of multiraftd with new data, one load by
// mrbench, its figures; the order in which things that are compared take turns; and the ratio of two of them with its
// interval. deploy/bench compares trees and flags with it, deploy/peers compares other systems.
//
// It prints nothing and judges nothing.
package trial
