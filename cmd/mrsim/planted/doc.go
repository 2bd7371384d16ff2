// Package planted holds bugs for the simulator to find: changes of the product's source, each of which breaks a
// rule on purpose.
//
//	NAME.bug = what it breaks, in words
//	           file PATH             where, from the top of the project; several may follow
//	           <<<<                  the source as it is; it must stand there exactly once
//	           ====                  and as it is with the bug, where BUG is true when the bug is on
//	           >>>>
//
// Overlay puts all of them into copies of the files, each behind its switch, for go build -overlay. The
// product's own source has no switch in it. On is false for every name in a binary built without the overlay.
package planted
