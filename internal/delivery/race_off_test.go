//go:build !race

package delivery

const slower = 1
