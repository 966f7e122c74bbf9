package predict

// adaptive is the level at which a quantile is taken so that it is missed as
// often as meant, also when what it is taken of changes: adaptive conformal
// inference (Gibbs and Candès, "Adaptive Conformal Inference Under Distribution
// Shift", NeurIPS 2021, equation 2). Below 0 it asks for an unbounded set.
type adaptive float64

// adaptiveStep is the step size gamma: about a hundred misses more or less than
// meant would move the level from one end to the other.
const adaptiveStep = 0.01

func (a *adaptive) correct(missed bool, target float64) {
	err := 0.0
	if missed {
		err = 1
	}
	*a += adaptive(adaptiveStep * (target - err))
}
