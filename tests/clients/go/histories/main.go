// Histories plays the same random history of requests to a new etcd and to a new trivet, step by step,
// and compares every answer, event, error and header.
//
// A history is made from a seed: all services, boundary and bad values, watches and leases beside them,
// old revisions, compactions, alarms, authentication on and off, restarts. Left out of the comparison are
// ids, terms, times and sizes. The first difference ends a history; it is then made as short as it can be,
// shown, and kept in a file that -replay plays again.
package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"trivet.test/clients/internal/harness"
)

const allServices = "kv,watch,lease,cluster,maintenance,auth,lock,election,raw,restart"

func main() {
	p := &player{times: map[string]time.Duration{}}
	flag.StringVar(&p.etcd, "etcd", "", "etcd's program")
	flag.StringVar(&p.trivetd, "trivetd", "", "trivet's program")
	flag.StringVar(&p.dir, "dir", "", "where the data goes; a folder in memory makes it fast")
	etcdFlags := flag.String("etcd-flags", "--unsafe-no-fsync --log-level error", "")
	trivetFlags := flag.String("trivet-flags", "--log-level warn", "")
	seed := flag.Int64("seed", 1, "of the first history")
	count := flag.Int("histories", 10, "how many, if the time suffices")
	steps := flag.Int("steps", 2000, "of each")
	seconds := flag.Float64("seconds", 600, "no history begins after that")
	services := flag.String("services", allServices, "what requests are made of")
	replay := flag.String("replay", "", "a file to play again instead")
	keep := flag.String("keep", ".", "where to keep histories that differ")
	shrinkSeconds := flag.Float64("shrink-seconds", 60, "for making one shorter")
	flag.Parse()
	p.etcdFlags, p.trivetFlags = strings.Fields(*etcdFlags), strings.Fields(*trivetFlags)
	if *replay != "" {
		os.Exit(playAgain(p, *replay))
	}
	chosen := map[string]bool{}
	for _, name := range strings.Split(*services, ",") {
		chosen[name] = true
	}
	var tally harness.Tally
	begin := time.Now()
	shown := begin
	compared := 0
	for n := 0; n < *count && time.Since(begin).Seconds() < *seconds; n++ {
		h := history(*seed+int64(n), chosen, *steps)
		found, played, err := p.play(h)
		compared += played
		for i := 0; i < played; i++ {
			tally.Pass()
		}
		if err != nil {
			tally.Fail("seed %d: %v", *seed+int64(n), err)
			continue
		}
		if found != nil {
			report(p, &tally, *seed+int64(n), h[:found.at+1], found, *keep, *shrinkSeconds)
		}
		if time.Since(shown) > time.Minute {
			shown = time.Now()
			fmt.Printf("%d requests of %d histories, %d differ\n", compared, n+1, tally.Failed())
		}
	}
	fmt.Printf("%d requests in %.0f s\n", compared, time.Since(begin).Seconds())
	p.printTimes()
	tally.Finish()
}

func report(p *player, tally *harness.Tally, seed int64, h []step, found *difference, keep string, seconds float64) {
	h, found = shrink(p, h, found, seconds)
	path := filepath.Join(keep, fmt.Sprintf("history-%d.json", seed))
	if err := save(path, h); err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	var text strings.Builder
	for i := range h {
		if len(h) <= 40 || i >= len(h)-40 {
			fmt.Fprintf(&text, "  %d %s\n", i, h[i].String())
		}
	}
	tally.Fail("seed %d, %d steps, kept as %s\n%s want %s\n got  %s", seed, len(h), path, text.String(),
		found.want, found.got)
}

func playAgain(p *player, path string) int {
	h, err := load(path)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 2
	}
	found, played, err := p.play(h)
	switch {
	case err != nil:
		fmt.Println(err)
	case found != nil:
		fmt.Printf("step %d: %s\n want %s\n got  %s\n", found.at, h[found.at].String(), found.want, found.got)
	default:
		fmt.Printf("%d passed, 0 failed\n", played)
		return 0
	}
	return 1
}
