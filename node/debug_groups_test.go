package node

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/multiraftd/multiraftd/raftcore"
)

// page returns what the node answers on its HTTP address.
func page(t testing.TB, n *Node, path string) (status int, body string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+n.httpLis.Addr().String()+path, nil)
	must(t, err)
	resp, err := http.DefaultClient.Do(req)
	must(t, err)
	defer resp.Body.Close() // read only
	data, err := io.ReadAll(resp.Body)
	must(t, err)
	return resp.StatusCode, string(data)
}

// words is text with single spaces.
func words(text string) string { return strings.Join(strings.Fields(text), " ") }

// flat is JSON without spaces: what protojson puts in is a matter of luck, on purpose.
func flat(t *testing.T, text string) string {
	t.Helper()
	var v any
	must(t, json.Unmarshal([]byte(text), &v))
	data, err := json.Marshal(v)
	must(t, err)
	return string(data)
}

func TestThePagesOnGroupsSayWhatTheReplicasSayOfThemselves(t *testing.T) {
	a := newAway(t, nil)
	_, _, err := a.client.CreateTopic(a.ctx, "orders", 1, 3)
	must(t, err)
	g := a.group("orders")
	a.append("orders", 0, 20, 100)
	a.until("all have all", func() bool {
		return a.alike(g) && a.status(2, g).Hash == a.status(1, g).Hash && a.status(1, g).HighWatermark == 20
	})
	led := 0
	for id, n := range a.nodes {
		st := a.status(id, g)
		_, list := page(t, n, "/debug/groups")
		if want := fmt.Sprintf("%d orders/0 %s", g, st.Role); !strings.Contains(words(list), want) || !strings.Contains(words(list), "1 metadata ") {
			t.Errorf("node %d: %q is not in\n%s", id, want, list)
		}
		_, text := page(t, n, fmt.Sprintf("/debug/groups/%d", g))
		wants := []string{
			fmt.Sprintf("group %d (orders/0), replica %d on node %d", g, st.Replica, id), fmt.Sprintf("state %s in term %d, leader %d", st.Role, st.Term, st.Leader),
			fmt.Sprintf("last %d, committed %d, applied %d, hash %016x", st.Last, st.Commit, st.Applied, st.Hash), "records offsets 0 to 20 (exclusive)",
			fmt.Sprintf("\n%d  ", st.Last), "appends",
		}
		if st.Role == raftcore.Leader {
			led++
			wants = append(wants, fmt.Sprintf("yes replicate %d %d yes no", st.Last, st.Last+1))
		} else {
			wants = append(wants, "yes - - - - - - -")
		}
		for _, want := range wants {
			if !strings.Contains(words(text), words(want)) {
				t.Errorf("node %d: %q is not in\n%s", id, want, text)
			}
		}
		_, data := page(t, n, fmt.Sprintf("/debug/groups/%d?format=json", g))
		if want := `"high_watermark":"20"`; !strings.Contains(flat(t, data), want) || !strings.Contains(data, "mailbox_messages") || !strings.Contains(data, "MEMBER_STATE") {
			t.Errorf("node %d: %q is not in %s", id, want, data)
		}
	}
	if led != 1 {
		t.Errorf("%d leaders", led)
	}
}

func TestThePagesOnGroupsRefuseWhatIsNoGroupHere(t *testing.T) {
	n := single(t)
	must(t, n.Ready(t.Context())) // before it there is no group
	for path, want := range map[string]int{
		"/debug/groups/7": http.StatusNotFound, "/debug/groups/seven": http.StatusBadRequest, "/debug/groups/-1": http.StatusBadRequest,
		"/debug/groups/1": http.StatusOK, "/debug/groups": http.StatusOK, "/debug/pprof/": http.StatusOK, "/debug/pprof/goroutine?debug=1": http.StatusOK,
	} {
		if got, body := page(t, n, path); got != want {
			t.Errorf("%s: %d, want %d: %s", path, got, want, body)
		}
	}
}
