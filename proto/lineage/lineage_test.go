package lineage

import (
	"bytes"
	"testing"

	"pgregory.net/rapid"
)

func id(b byte) []byte { return bytes.Repeat([]byte{b}, IDBytes) }

// starts is a store that has been started with these ids.
func starts(ids ...byte) (s Start) {
	for _, b := range ids {
		s = s.Next(id(b))
	}
	return s
}

func TestACopyIsToldFromTheStoreItWasMadeOf(t *testing.T) {
	for _, row := range []struct {
		what            string
		known, claim    Start
		forked, follows bool
	}{
		{"the same start", starts(1, 2), starts(1, 2), false, true},
		{"the next one", starts(1, 2), starts(1, 2, 3), false, true},
		{"some starts later", starts(1, 2), starts(1, 2, 3, 4, 5), false, true},
		{"a copy started once, like the original", starts(1, 2, 3), starts(1, 2, 9), true, false},
		{"a copy started more often", starts(1, 2, 3), starts(1, 2, 8, 9), true, false},
		{"a copy that has started less often is told by its number", starts(1, 2, 3), starts(1, 2), false, false},
		{"a copy made of this very start can't be told", starts(1, 2), starts(1, 2, 9), false, true},
		{"nothing is known", Start{Number: 2}, starts(1, 9), false, true},
		{"nothing is shown", starts(1, 2), Start{Number: 5, ID: id(9)}, false, false},
		{"so much later that it could not show it", starts(1, 2), Start{Number: 3 + EarlierMax, ID: id(9)}, false, true},
		{"no id at all, as the header of a unary call of an old node", starts(1, 2), Start{Number: 2}, false, false},
	} {
		if forked, follows := row.claim.ForkedFrom(row.known), row.claim.Follows(row.known); forked != row.forked || follows != row.follows {
			t.Errorf("%s: forked %v, follows %v", row.what, forked, follows)
		}
	}
}

func TestOnlySoManyStartsAreRemembered(t *testing.T) {
	s := Start{Number: 7} // of a version that drew no ids: a gap
	for b := range byte(2*EarlierMax + 1) {
		if s = s.Next(id(b)); len(s.Earlier) != min(int(b), EarlierMax) || !s.Valid() {
			t.Fatalf("start %d: %d earlier ones", s.Number, len(s.Earlier))
		}
	}
	if s.Number != 7+2*EarlierMax+1 || s.Earlier[0][0] != 2*EarlierMax-1 || s.Earlier[EarlierMax-1][0] != EarlierMax {
		t.Errorf("start %d after %v to %v", s.Number, s.Earlier[0], s.Earlier[EarlierMax-1])
	}
	for what, bad := range map[string]Start{
		"a short id": {ID: id(1)[1:]}, "a short earlier id": {Earlier: [][]byte{id(1), nil}}, "too many": {Earlier: append(s.Earlier, id(1))},
	} {
		if bad.Valid() {
			t.Errorf("%s is valid", what)
		}
	}
}

// TestNoOtherHistoryIsTakenForTheSame draws two stores that were one for a while.
func TestNoOtherHistoryIsTakenForTheSame(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		common := starts(rapid.SliceOfN(rapid.ByteRange(0, 99), 1, 80).Draw(t, "common")...)
		grow := func(s Start, label string, from, to byte) Start {
			for _, b := range rapid.SliceOfN(rapid.ByteRange(from, to), 0, 100).Draw(t, label) {
				s = s.Next(id(b))
			}
			return s
		}
		original, copied := grow(common, "original", 100, 149), grow(common, "copied", 150, 199)
		if original.ForkedFrom(common) || original.Number > common.Number && common.ForkedFrom(original) {
			t.Fatal("a store is no copy of itself")
		}
		apart := original.Number > common.Number && copied.Number >= original.Number && copied.Number-original.Number <= EarlierMax
		if copied.ForkedFrom(original) != apart {
			t.Fatalf("%d common starts, then to %d and %d: %v", common.Number, original.Number, copied.Number, !apart)
		}
		if !original.Follows(common) || copied.Number <= original.Number+EarlierMax && copied.Follows(original) != (original.Number == common.Number) {
			t.Fatalf("%d common starts, then to %d and %d", common.Number, original.Number, copied.Number)
		}
	})
}
