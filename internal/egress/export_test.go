package egress

// OnDial has f decide about each connection that a guard is about to make.
func (g *Guard) OnDial(f func(network, address string) error) *Guard {
	g.dialling = f
	return g
}
