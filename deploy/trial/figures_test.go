package trial

import "testing"

func TestTheFiguresOfALoadAreReadOrRefused(t *testing.T) {
	f, err := Parse([]byte(`{"command":"append","append":{"records":9,"records_per_s":4.5,"mb_per_s":0.25,"latency_ms":{"p50":1.5,"p99":2.5,"max":9},"errors":0}}`))
	if err != nil || f.RecordsPerS != 4.5 || f.MBPerS != 0.25 || f.Latency.P50 != 1.5 || f.Latency.P99 != 2.5 {
		t.Errorf("%+v, %v", f, err)
	}
	for _, bad := range []string{``, `{}`, `{"append":{"records_per_s":9,"errors":1}}`, `{"append":{"records_per_s":"many"}}`} {
		if f, err := Parse([]byte(bad)); err == nil {
			t.Errorf("%s gives %+v", bad, f)
		}
	}
}
