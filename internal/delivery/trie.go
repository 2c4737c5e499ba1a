package delivery

// maxTrie bounds the table of a trie, in entries of two bytes.
const maxTrie = 8 << 20

// trie finds many words in one pass, wherever they are in others (Aho and Corasick, "Efficient string
// matching", 1975): its state is the longest beginning of a word that ends at the byte just read.
type trie struct {
	states  map[string]uint16 // where each word ends
	column  [256]byte         // of a row; 0 for the bytes that no word has
	columns int
	rows    []uint16 // the next state, by state and column
	suffix  []uint16 // the next shorter beginning
	order   []uint16 // states by length
	seen    []bool
	at      uint16
}

// ready builds the table from the words. It reports false if they are too many.
func (t *trie) ready() bool {
	size := 1
	t.columns = 1
	for word := range t.states {
		size += len(word)
		for i := range len(word) {
			if t.column[word[i]] == 0 { // some bytes are in no word, so one column is left for them
				t.column[word[i]] = byte(t.columns)
				t.columns++
			}
		}
	}
	if size > 1<<16 || size*t.columns > maxTrie {
		return false
	}
	t.rows = make([]uint16, t.columns, min(size, 4096)*t.columns)
	for word := range t.states {
		t.states[word] = t.insert(word)
	}
	t.link()
	t.seen = make([]bool, len(t.suffix))
	return true
}

func (t *trie) insert(word string) (state uint16) {
	for i := range len(word) {
		next := &t.rows[int(state)*t.columns+int(t.column[word[i]])]
		if *next == 0 {
			*next = uint16(len(t.rows) / t.columns)
			state = *next
			t.rows = append(t.rows, make([]uint16, t.columns)...)
			continue
		}
		state = *next
	}
	return state
}

// link fills the table with where to go on when a word does not.
func (t *trie) link() {
	t.suffix = make([]uint16, len(t.rows)/t.columns)
	t.order = make([]uint16, 1, len(t.suffix))
	for i := 0; i < len(t.order); i++ {
		state := int(t.order[i])
		for c := range t.columns {
			next := &t.rows[state*t.columns+c]
			other := t.rows[int(t.suffix[state])*t.columns+c]
			switch {
			case *next == 0:
				*next = other
			case state == 0:
				t.order = append(t.order, *next)
			default:
				t.suffix[*next] = other
				t.order = append(t.order, *next)
			}
		}
	}
}

// settle ends reading: with each beginning that was seen, its suffixes were.
func (t *trie) settle() {
	for i := len(t.order) - 1; i > 0; i-- {
		if state := t.order[i]; t.seen[state] {
			t.seen[t.suffix[state]] = true
		}
	}
}

func (t *trie) has(word string) bool { return t.seen[t.states[word]] }
