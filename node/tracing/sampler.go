package tracing

import (
	"fmt"
	"os"
	"strconv"
)

// RatioDefault is what is sampled of appends when traces are exported and nobody says how many.
const RatioDefault = 0.01

// Ratio works out which part of the appends without a context is sampled: what the setting says, else what
// OTEL_TRACES_SAMPLER says, else RatioDefault when spans are exported to endpoint or where the environment says, and
// none when they are not. All samplers are parent-based here: a context that comes with a request decides.
func Ratio(setting, endpoint string) (float64, error) {
	if setting != "" {
		return parseRatio("--trace-ratio ", setting)
	}
	switch name, arg := os.Getenv("OTEL_TRACES_SAMPLER"), os.Getenv("OTEL_TRACES_SAMPLER_ARG"); name {
	case "":
	case "always_on", "parentbased_always_on":
		return 1, nil
	case "always_off", "parentbased_always_off":
		return 0, nil
	case "traceidratio", "parentbased_traceidratio":
		if arg == "" {
			return 1, nil // as the specification has it
		}
		return parseRatio("OTEL_TRACES_SAMPLER_ARG ", arg)
	default:
		return 0, fmt.Errorf("OTEL_TRACES_SAMPLER %q: want always_on, always_off or traceidratio, also with parentbased_ before it", name)
	}
	if exports(endpoint) {
		return RatioDefault, nil
	}
	return 0, nil
}

func parseRatio(what, s string) (float64, error) {
	v, err := strconv.ParseFloat(s, 64)
	if err != nil || !(v >= 0 && v <= 1) {
		return 0, fmt.Errorf("%s%q: want a number from 0 to 1", what, s)
	}
	return v, nil
}
