package main

import (
	"bytes"
	"fmt"
	"math/rand"

	"google.golang.org/protobuf/proto"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// A generator makes steps that are mostly sensible, often at the edge, and sometimes wrong. It knows no
// answers: what it says about revisions is resolved when the step is done.
type generator struct {
	rng      *rand.Rand
	services map[string]bool
	serial   int
	leases   []int64
	pending  []step // come next
	auth     bool   // identities matter in this history
}

func newGenerator(seed int64, services map[string]bool) *generator {
	g := &generator{rng: rand.New(rand.NewSource(seed)), services: services}
	g.auth = services["auth"] && g.chance(35)
	return g
}

// history is what a seed says.
func history(seed int64, services map[string]bool, count int) []step {
	g := newGenerator(seed, services)
	if g.auth {
		g.setUpAuth()
	}
	steps := make([]step, 0, count)
	for len(steps) < count {
		if len(g.pending) > 0 {
			steps, g.pending = append(steps, g.pending[0]), g.pending[1:]
			continue
		}
		steps = append(steps, g.next())
	}
	return append(steps, step{Kind: stepSync})
}

func (g *generator) chance(percent int) bool { return g.rng.Intn(100) < percent }

func pick[T any](g *generator, of ...T) T { return of[g.rng.Intn(len(of))] }

func (g *generator) later(steps ...step) { g.pending = append(g.pending, steps...) }

// laterNext makes another step and puts it behind those that come, before what follows from it.
func (g *generator) laterNext() {
	before := g.pending
	g.pending = nil
	s := g.next()
	g.pending = append(append(before, s), g.pending...)
}

func (g *generator) call(method string, request proto.Message) step {
	return step{Kind: stepCall, Method: method, Message: encode(request), Identity: g.identity()}
}

func encode(m proto.Message) []byte {
	data, err := proto.MarshalOptions{AllowPartial: true}.Marshal(m)
	if err != nil {
		panic(err)
	}
	return data
}

func (g *generator) next() step {
	kinds := []struct {
		weight  int
		service string
		make    func() step
	}{
		{280, "kv", func() step { return g.call("etcdserverpb.KV/Put", g.putRequest()) }},
		{160, "kv", func() step { return g.call("etcdserverpb.KV/Range", g.rangeRequest()) }},
		{80, "kv", func() step { return g.call("etcdserverpb.KV/RangeStream", g.rangeStreamRequest()) }},
		{80, "kv", func() step { return g.call("etcdserverpb.KV/DeleteRange", g.deleteRequest()) }},
		{200, "kv", func() step { return g.call("etcdserverpb.KV/Txn", g.txnRequest(0)) }},
		{8, "kv", g.compaction},
		{100, "lease", g.leaseStep},
		{60, "watch", g.watchStep},
		{6, "watch", func() step { return step{Kind: stepSync} }},
		{10, "maintenance", g.maintenanceStep},
		{8, "cluster", g.clusterStep},
		{20, "auth", g.authStep},
		{4, "lock", g.lockStep},
		{6, "election", g.electionStep},
		{10, "raw", g.rawStep},
		{1, "restart", g.restart},
	}
	total := 0
	for _, k := range kinds {
		if g.services[k.service] {
			total += k.weight
		}
	}
	n := g.rng.Intn(total)
	for _, k := range kinds {
		if !g.services[k.service] {
			continue
		}
		if n -= k.weight; n < 0 {
			return k.make()
		}
	}
	panic("no step")
}

func (g *generator) restart() step {
	if g.chance(80) { // it takes as long as hundreds of others
		return g.call("etcdserverpb.KV/Range", g.rangeRequest())
	}
	hard := g.chance(50)
	g.later(step{Kind: stepRestart, Hard: hard})
	if g.auth {
		g.later(g.logins()...)
	}
	return step{Kind: stepSync}
}

// --- what requests are made of ---

func (g *generator) key() []byte {
	if g.chance(2) {
		return pick(g, []byte{}, []byte{0}, []byte{0xff}, []byte{0xff, 0xff}, []byte("a\x00"),
			[]byte("a/b\xff"), []byte("\xc3\x28"))
	}
	return []byte(fmt.Sprintf("%c/%c", 'a'+rune(g.rng.Intn(3)), 'a'+rune(g.rng.Intn(8))))
}

func (g *generator) value() []byte {
	g.serial++
	switch {
	case g.chance(5):
		return nil
	case g.chance(2):
		return make([]byte, g.rng.Intn(20000))
	}
	return []byte(fmt.Sprintf("v%d-%0*d", g.serial%50, g.rng.Intn(30), 0))
}

// end is a range_end for a key: none, a prefix's, all that follows, or something arbitrary.
func (g *generator) end(key []byte) []byte {
	end := g.anyEnd(key)
	if g.auth && len(end) > 0 && end[0] != 0 && bytes.Compare(end, key) <= 0 {
		// COMPAT differs, Auth: who may ask for a range that ends before it begins: here who may read its key; in etcd it
		// COMPAT   depends on the shape of a tree
		return nil // who may ask for a range without keys depends on the shape of a tree in etcd
	}
	return end
}

func (g *generator) anyEnd(key []byte) []byte {
	switch g.rng.Intn(8) {
	case 0, 1, 2:
		return nil
	case 3:
		return []byte{0}
	case 4, 5:
		end := append([]byte{}, key...)
		for i := len(end) - 1; i >= 0; i-- {
			if end[i] < 0xff {
				end[i]++
				return end[:i+1]
			}
		}
		return []byte{0}
	case 6:
		if len(key) > 0 {
			return []byte{key[0] + 1}
		}
		return []byte{1}
	}
	return g.key()
}

func (g *generator) revision() int64 {
	switch g.rng.Intn(12) {
	case 0:
		return currentRevision + 1 + int64(g.rng.Intn(3))
	case 1:
		return pick(g, compactedRevision, compactedRevision-1, compactedRevision+1, 1, -1, 0)
	case 2:
		return currentRevision
	case 3, 4:
		return compactedRevision + 1 + g.rng.Int63n(20)
	}
	return currentRevision - g.rng.Int63n(1+int64(pick(g, 5, 50, 500)))
}

// lease is one that was granted, mostly.
func (g *generator) lease() int64 {
	if len(g.leases) == 0 || g.chance(10) {
		return pick(g, int64(999999), -1, 0)
	}
	return g.leases[g.rng.Intn(len(g.leases))]
}

// --- KV ---

func (g *generator) rangeRequest() *pb.RangeRequest {
	key := g.key()
	r := &pb.RangeRequest{Key: key, RangeEnd: g.end(key), Serializable: g.chance(30)}
	if g.chance(30) {
		r.Revision = g.revision()
	}
	if g.chance(40) {
		r.Limit = pick(g, int64(1), 2, 3, 7, 100, -1)
	}
	if g.chance(50) {
		r.SortOrder = pb.RangeRequest_SortOrder(g.rng.Intn(3))
		r.SortTarget = pb.RangeRequest_SortTarget(g.rng.Intn(5))
	}
	if g.chance(2) {
		r.SortOrder = pb.RangeRequest_SortOrder(pick(g, 3, -1, 100))
	}
	if g.chance(2) {
		r.SortTarget = pb.RangeRequest_SortTarget(pick(g, 5, -1, 100))
	}
	r.KeysOnly, r.CountOnly = g.chance(15), g.chance(10)
	for _, limit := range []*int64{&r.MinModRevision, &r.MaxModRevision, &r.MinCreateRevision,
		&r.MaxCreateRevision} {
		if g.chance(8) {
			*limit = g.revision()
		}
	}
	if r.SortTarget != pb.RangeRequest_KEY {
		// Equal versions, values or revisions have no order of their own: then let there be no limit
		// that would choose among them, and look at one key.
		r.Limit, r.RangeEnd = 0, nil
	}
	return r
}

func (g *generator) rangeStreamRequest() *pb.RangeRequest {
	r := g.rangeRequest()
	if g.chance(75) { // without what is refused
		r.SortOrder = pick(g, pb.RangeRequest_NONE, pb.RangeRequest_ASCEND)
		r.SortTarget = pb.RangeRequest_KEY
		r.MinModRevision, r.MaxModRevision = 0, 0
		r.MinCreateRevision, r.MaxCreateRevision = 0, 0
		if g.chance(20) {
			r.Limit = pick(g, int64(9), 10, 11, 12, 20, -3)
		}
	}
	if r.SortTarget != pb.RangeRequest_KEY && g.chance(50) {
		// etcd sorts each message by itself. Equal ones stay in the order of their keys as long as
		// there are at most 12, which with this limit are never more.
		r.SortOrder, r.RangeEnd = pb.RangeRequest_NONE, g.end(r.Key)
		r.Limit = 1 + int64(g.rng.Intn(20))
	}
	return r
}

func (g *generator) putRequest() *pb.PutRequest {
	r := &pb.PutRequest{Key: g.key(), Value: g.value(), PrevKv: g.chance(30)}
	if g.chance(15) {
		r.Lease = g.lease()
	}
	if g.chance(4) {
		r.IgnoreValue = true
		if g.chance(80) {
			r.Value = nil
		}
	}
	if g.chance(4) {
		r.IgnoreLease = true
		if g.chance(80) {
			r.Lease = 0
		}
	}
	return r
}

func (g *generator) deleteRequest() *pb.DeleteRangeRequest {
	key := g.key()
	r := &pb.DeleteRangeRequest{Key: key, PrevKv: g.chance(40)}
	if g.chance(25) {
		r.RangeEnd = g.end(key)
	}
	return r
}

func (g *generator) compare() *pb.Compare {
	c := &pb.Compare{Key: g.key(), Result: pb.Compare_CompareResult(g.rng.Intn(4)),
		Target: pb.Compare_CompareTarget(g.rng.Intn(5))}
	if g.chance(1) {
		c.Result = pb.Compare_CompareResult(pick(g, 4, -1))
	}
	if g.chance(20) {
		c.RangeEnd = g.end(c.Key)
	}
	target := c.Target
	if g.chance(2) {
		target = pb.Compare_CompareTarget(g.rng.Intn(5)) // another operand than the target's
	}
	number := pick(g, int64(0), 1, 2, currentRevision, g.revision())
	switch target {
	case pb.Compare_VERSION:
		c.TargetUnion = &pb.Compare_Version{Version: number}
	case pb.Compare_CREATE:
		c.TargetUnion = &pb.Compare_CreateRevision{CreateRevision: number}
	case pb.Compare_MOD:
		c.TargetUnion = &pb.Compare_ModRevision{ModRevision: number}
	case pb.Compare_VALUE:
		c.TargetUnion = &pb.Compare_Value{Value: g.value()}
	case pb.Compare_LEASE:
		c.TargetUnion = &pb.Compare_Lease{Lease: pick(g, 0, g.lease())}
	}
	if g.chance(2) {
		c.TargetUnion = nil
	}
	return c
}

func (g *generator) ops(depth int) []*pb.RequestOp {
	count := g.rng.Intn(4)
	if depth == 0 && g.chance(1) {
		count = pick(g, 127, 128, 129)
	}
	var ops []*pb.RequestOp
	for i := 0; i < count; i++ {
		op := &pb.RequestOp{}
		switch n := g.rng.Intn(10); {
		case n < 4:
			op.Request = &pb.RequestOp_RequestPut{RequestPut: g.putRequest()}
		case n < 7:
			op.Request = &pb.RequestOp_RequestRange{RequestRange: g.rangeRequest()}
		case n < 9 || depth >= 3:
			op.Request = &pb.RequestOp_RequestDeleteRange{RequestDeleteRange: g.deleteRequest()}
		default:
			op.Request = &pb.RequestOp_RequestTxn{RequestTxn: g.txnRequest(depth + 1)}
		}
		if g.chance(1) {
			op.Request = nil
		}
		ops = append(ops, op)
	}
	return ops
}

func (g *generator) txnRequest(depth int) *pb.TxnRequest {
	r := &pb.TxnRequest{Success: g.ops(depth), Failure: g.ops(depth)}
	for n := g.rng.Intn(3); n > 0; n-- {
		r.Compare = append(r.Compare, g.compare())
	}
	return r
}

func (g *generator) compaction() step {
	r := &pb.CompactionRequest{Revision: g.revision(), Physical: g.chance(60)}
	compact := g.call("etcdserverpb.KV/Compact", r)
	if !g.services["watch"] {
		return compact
	}
	g.later(compact)
	return step{Kind: stepSync} // or it depends on the time which watches have got what goes away
}

// --- leases ---

const endingLeaseMin = 5000 // from here on: their end comes when it comes, they are not used

func (g *generator) endingLease() int64 {
	g.serial++
	return endingLeaseMin + int64(g.serial)
}

func (g *generator) leaseStep() step {
	switch g.rng.Intn(6) {
	case 0, 1:
		r := &pb.LeaseGrantRequest{ID: int64(g.rng.Intn(1000) + 1), TTL: pick(g, int64(3600), 100000, 7200)}
		if g.chance(5) {
			r.TTL = pick(g, int64(-1), 0, 9000000000, 9000000001)
		}
		if r.TTL > 100 && r.TTL <= 9000000000 {
			g.leases = append(g.leases, r.ID)
		} else if r.TTL <= 0 {
			r.ID = g.endingLease()
		}
		return g.call("etcdserverpb.Lease/LeaseGrant", r)
	case 2:
		return g.call("etcdserverpb.Lease/LeaseRevoke", &pb.LeaseRevokeRequest{ID: g.lease()})
	case 3:
		return g.call("etcdserverpb.Lease/LeaseTimeToLive",
			&pb.LeaseTimeToLiveRequest{ID: g.lease(), Keys: g.chance(60)})
	case 4:
		return g.call("etcdserverpb.Lease/LeaseLeases", &pb.LeaseLeasesRequest{})
	}
	return g.call("etcdserverpb.Lease/LeaseKeepAlive", &pb.LeaseKeepAliveRequest{ID: g.lease()})
}

// --- watches ---

const streamsMax = 6

func (g *generator) watchStep() step {
	stream := g.rng.Intn(streamsMax)
	s := step{Kind: stepWatch, Method: "etcdserverpb.Watch/Watch", Stream: stream, Identity: g.identity()}
	switch n := g.rng.Intn(20); {
	case n < 1:
		return step{Kind: stepClose, Stream: stream}
	case n < 4:
		s.Message = encode(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CancelRequest{
			CancelRequest: &pb.WatchCancelRequest{WatchId: pick(g, int64(0), 1, 2, 3, 7, 1<<40, -1)}}})
		g.later(s)
		return step{Kind: stepSync} // or the cancellation races with events
	case n < 5:
		s.Message = encode(&pb.WatchRequest{})
		return s
	}
	key := g.key()
	from := g.revision()
	if from > compactedRevision+1 && from < compactedRevision+relativeMax {
		from = 0 // it may be too far in the future for a sync
	}
	create := &pb.WatchCreateRequest{Key: key, RangeEnd: g.end(key), StartRevision: pick(g, 0, from),
		PrevKv: g.chance(50), Fragment: g.chance(20), ProgressNotify: g.chance(10)}
	if g.chance(20) {
		create.Filters = append(create.Filters, pick(g, pb.WatchCreateRequest_NOPUT,
			pb.WatchCreateRequest_NODELETE))
	}
	if g.chance(10) {
		create.WatchId = pick(g, int64(7), 1<<40, -5)
	}
	s.Message = encode(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: create}})
	if create.WatchId != 0 && create.StartRevision != 0 {
		g.later(step{Kind: stepSync}) // etcd ends it some time later when it is compacted; until then the id is taken
	}
	return s
}

// --- what does not decode ---

var rawMethods = []string{"etcdserverpb.KV/Put", "etcdserverpb.KV/Range", "etcdserverpb.KV/Txn",
	"etcdserverpb.KV/DeleteRange", "etcdserverpb.Lease/LeaseTimeToLive", "etcdserverpb.Maintenance/HashKV"}

// rawStep is a request with some of its bytes changed.
func (g *generator) rawStep() step {
	var m proto.Message
	method := pick(g, rawMethods...)
	switch method {
	case "etcdserverpb.KV/Put":
		m = &pb.PutRequest{Key: g.key(), Value: g.value(), PrevKv: g.chance(30)}
	case "etcdserverpb.KV/Range":
		m = &pb.RangeRequest{Key: g.key(), Limit: int64(g.rng.Intn(5)), Serializable: g.chance(50)}
	case "etcdserverpb.KV/Txn":
		m = &pb.TxnRequest{Compare: []*pb.Compare{{Key: g.key()}}, Success: []*pb.RequestOp{{
			Request: &pb.RequestOp_RequestPut{RequestPut: &pb.PutRequest{Key: g.key(), Value: g.value()}}}}}
	case "etcdserverpb.KV/DeleteRange":
		m = &pb.DeleteRangeRequest{Key: g.key(), PrevKv: g.chance(50)}
	case "etcdserverpb.Lease/LeaseTimeToLive":
		m = &pb.LeaseTimeToLiveRequest{ID: 7, Keys: true}
	default:
		m = &pb.HashKVRequest{}
	}
	data := encode(m)
	for n := 1 + g.rng.Intn(3); n > 0 && len(data) > 0; n-- {
		at := g.rng.Intn(len(data))
		switch g.rng.Intn(4) {
		case 0:
			data[at] = byte(g.rng.Intn(256))
		case 1:
			data = append(data[:at:at], data[at+1:]...)
		case 2:
			data = append(data[:at:at], append([]byte{byte(g.rng.Intn(256))}, data[at:]...)...)
		case 3:
			data = data[:at]
		}
	}
	return step{Kind: stepRaw, Method: method, Message: data, Identity: g.identity()}
}
