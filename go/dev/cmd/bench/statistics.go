package main

import (
	"math"
	"slices"
)

// percentile is the smallest sample that at least the share p of all samples does not exceed (nearest rank). For fewer than
// 100 samples, percentile 0.99 is their maximum.
func percentile(samples []float64, p float64) float64 {
	sorted := slices.Sorted(slices.Values(samples))
	rank := int(math.Ceil(p * float64(len(sorted))))
	return sorted[max(rank, 1)-1]
}

// estimate is a median over rounds and the interval that holds the true median with 95 % confidence.
type estimate struct {
	Median float64 `json:"median"`
	Low    float64 `json:"low"`
	High   float64 `json:"high"`
}

// estimateMedian assumes nothing about the distribution: how many samples fall below the true median is binomial, so the
// interval's ends are samples, 0.98 √n ranks from the middle. Fewer than six samples cannot bound it: then it is their range.
func estimateMedian(samples []float64) estimate {
	sorted := slices.Sorted(slices.Values(samples))
	n := len(sorted)
	distance := 0.98 * math.Sqrt(float64(n))
	low := max(int(math.Floor(float64(n)/2-distance)), 0)
	return estimate{
		Median: (sorted[(n-1)/2] + sorted[n/2]) / 2,
		Low:    sorted[low],
		High:   sorted[n-1-low],
	}
}
