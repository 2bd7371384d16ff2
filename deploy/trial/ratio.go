package trial

import "math"

// Rounds calls run for every arm once per round, in an order that moves on by one with each round, so that what changes
// on the machine meanwhile hits all alike. It ends with the first error.
func Rounds(rounds, arms int, run func(round, arm int) error) error {
	for round := range rounds {
		for i := range arms {
			if err := run(round, (i+round)%arms); err != nil {
				return err
			}
		}
	}
	return nil
}

// Ratio is the geometric mean of the ratios of the pairs, with its 95 % interval by Student's t. From one pair no interval
// is known: it is 0 to infinity.
func Ratio(figures, base []float64) (ratio, low, high float64) {
	n := float64(len(figures))
	var sum, squares float64
	for i := range figures {
		l := math.Log(figures[i] / base[i])
		sum += l
		squares += l * l
	}
	mean := sum / n
	if n < 2 {
		return math.Exp(mean), 0, math.Inf(1)
	}
	half := studentT(len(figures)-1) * math.Sqrt(max(0, squares-n*mean*mean)/(n-1)/n)
	return math.Exp(mean), math.Exp(mean - half), math.Exp(mean + half)
}

// studentT is the 97.5 % quantile for so many degrees of freedom.
func studentT(degrees int) float64 {
	table := []float64{12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093}
	if degrees <= len(table) {
		return table[degrees-1]
	}
	return 2.093 - 0.133*(1-float64(len(table))/float64(degrees)) // to 1.960; it errs to the wide side
}
