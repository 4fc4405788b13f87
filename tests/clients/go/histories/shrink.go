package main

import "time"

// shrink leaves steps out as long as a difference remains: large pieces first, then single steps. The
// last step is the one that differs.
func shrink(p *player, h []step, found *difference, seconds float64) ([]step, *difference) {
	deadline := time.Now().Add(time.Duration(seconds * float64(time.Second)))
	for size := len(h) / 2; size >= 1 && time.Now().Before(deadline); {
		smaller := false
		for at := 0; at+size < len(h) && time.Now().Before(deadline); {
			without := append(append([]step{}, h[:at]...), h[at+size:]...)
			if again, _, err := p.play(without); err == nil && again != nil {
				h, found, smaller = without[:again.at+1], again, true
			} else {
				at += size
			}
		}
		if size > 1 {
			size /= 2
		} else if !smaller {
			break
		}
	}
	return h, found
}
