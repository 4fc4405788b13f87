package main

import (
	"context"
	"fmt"
	"math/rand"

	"google.golang.org/protobuf/proto"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// A generator makes requests that are mostly sensible, often at the edge, and sometimes wrong.
type generator struct {
	rng       *rand.Rand
	revision  int64
	compacted int64
	serial    int
	leases    []int64
}

func (g *generator) chance(percent int) bool { return g.rng.Intn(100) < percent }

func pick[T any](g *generator, of ...T) T { return of[g.rng.Intn(len(of))] }

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
	case g.chance(3):
		return make([]byte, g.rng.Intn(20000))
	}
	return []byte(fmt.Sprintf("v%d-%0*d", g.serial%50, g.rng.Intn(30), 0))
}

// end is a range_end for a key: none, a prefix's, all that follows, or something arbitrary.
func (g *generator) end(key []byte) []byte {
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
		return []byte{key0(key) + 1}
	}
	return g.key()
}

func key0(key []byte) byte {
	if len(key) == 0 {
		return 0
	}
	return key[0]
}

func (g *generator) rev() int64 {
	switch g.rng.Intn(12) {
	case 0:
		return g.revision + 1 + int64(g.rng.Intn(3))
	case 1:
		return pick(g, g.compacted, g.compacted-1, g.compacted+1, 1, -1)
	case 2:
		return g.revision
	}
	if g.revision <= g.compacted {
		return g.revision
	}
	return g.compacted + 1 + g.rng.Int63n(g.revision-g.compacted)
}

// lease is one that was granted, mostly.
func (g *generator) lease() int64 {
	if len(g.leases) == 0 || g.chance(10) {
		return pick(g, int64(999999), -1, 0)
	}
	return g.leases[g.rng.Intn(len(g.leases))]
}

func (g *generator) rangeRequest() *pb.RangeRequest {
	key := g.key()
	r := &pb.RangeRequest{Key: key, RangeEnd: g.end(key), Serializable: g.chance(30)}
	if g.chance(30) {
		r.Revision = g.rev()
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
			*limit = g.rev()
		}
	}
	if r.SortOrder != pb.RangeRequest_NONE || r.SortTarget != pb.RangeRequest_KEY {
		// Equal versions, values or revisions have no order of their own: then let there be no limit
		// that would choose among them, and look at one key.
		if r.SortTarget != pb.RangeRequest_KEY {
			r.Limit, r.RangeEnd = 0, nil
		}
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
	number := pick(g, int64(0), 1, 2, g.revision, g.rev())
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

// unary makes a call of a request that is shown when its answers differ.
func unary[Q, A proto.Message](name string, request Q,
	do func(ctx context.Context, s *side, request Q) (A, error)) call {
	return call{name + " " + brief(request), func(ctx context.Context, s *side) (proto.Message, error) {
		answer, err := do(ctx, s, proto.Clone(request).(Q))
		return answer, err
	}}
}

func (g *generator) next() call {
	switch n := g.rng.Intn(100); {
	case n < 30:
		return unary("Put", g.putRequest(), func(ctx context.Context, s *side, r *pb.PutRequest) (*pb.PutResponse, error) {
			return s.kv.Put(ctx, r)
		})
	case n < 55:
		if g.chance(40) {
			return g.streamCall()
		}
		return unary("Range", g.rangeRequest(), func(ctx context.Context, s *side, r *pb.RangeRequest) (*pb.RangeResponse, error) {
			return s.kv.Range(ctx, r)
		})
	case n < 63:
		return unary("DeleteRange", g.deleteRequest(), func(ctx context.Context, s *side, r *pb.DeleteRangeRequest) (*pb.DeleteRangeResponse, error) {
			return s.kv.DeleteRange(ctx, r)
		})
	case n < 83:
		return unary("Txn", g.txnRequest(0), func(ctx context.Context, s *side, r *pb.TxnRequest) (*pb.TxnResponse, error) {
			return s.kv.Txn(ctx, r)
		})
	case n < 84:
		return g.compaction()
	case n < 92:
		return g.leaseCall()
	}
	return g.watchCall()
}

func (g *generator) compaction() call {
	r := &pb.CompactionRequest{Revision: g.rev(), Physical: g.chance(50)}
	if r.Revision > g.compacted && r.Revision <= g.revision {
		g.compacted = r.Revision
	}
	return unary("Compact", r, func(ctx context.Context, s *side, r *pb.CompactionRequest) (*pb.CompactionResponse, error) {
		return s.kv.Compact(ctx, r)
	})
}

func (g *generator) leaseCall() call {
	switch g.rng.Intn(6) {
	case 0, 1:
		r := &pb.LeaseGrantRequest{ID: int64(g.rng.Intn(1000) + 1), TTL: pick(g, int64(3600), 100000, 7200)}
		if g.chance(5) {
			r.TTL = pick(g, int64(-1), 0, 9000000000, 9000000001)
		}
		if r.TTL > 100 && r.TTL <= 9000000000 {
			g.leases = append(g.leases, r.ID)
		} else if r.TTL <= 0 {
			r.ID = 5000 // its end comes when it comes: not among those that are used
		}
		return unary("LeaseGrant", r, func(ctx context.Context, s *side, r *pb.LeaseGrantRequest) (*pb.LeaseGrantResponse, error) {
			return s.lease.LeaseGrant(ctx, r)
		})
	case 2:
		r := &pb.LeaseRevokeRequest{ID: g.lease()}
		return unary("LeaseRevoke", r, func(ctx context.Context, s *side, r *pb.LeaseRevokeRequest) (*pb.LeaseRevokeResponse, error) {
			return s.lease.LeaseRevoke(ctx, r)
		})
	case 3:
		r := &pb.LeaseTimeToLiveRequest{ID: g.lease(), Keys: g.chance(60)}
		return unary("LeaseTimeToLive", r, func(ctx context.Context, s *side, r *pb.LeaseTimeToLiveRequest) (*pb.LeaseTimeToLiveResponse, error) {
			return s.lease.LeaseTimeToLive(ctx, r)
		})
	case 4:
		return unary("LeaseLeases", &pb.LeaseLeasesRequest{}, func(ctx context.Context, s *side, r *pb.LeaseLeasesRequest) (*pb.LeaseLeasesResponse, error) {
			answer, err := s.lease.LeaseLeases(ctx, r)
			if err == nil { // 5000 may have ended on one side already
				kept := answer.Leases[:0]
				for _, l := range answer.Leases {
					if l.ID != 5000 {
						kept = append(kept, l)
					}
				}
				answer.Leases = kept
			}
			return answer, err
		})
	}
	r := &pb.LeaseKeepAliveRequest{ID: g.lease()}
	return unary("LeaseKeepAlive", r, func(ctx context.Context, s *side, r *pb.LeaseKeepAliveRequest) (*pb.LeaseKeepAliveResponse, error) {
		stream, err := s.lease.LeaseKeepAlive(ctx)
		if err != nil {
			return nil, err
		}
		if err := stream.Send(r); err != nil {
			return nil, err
		}
		answer, err := stream.Recv()
		if err != nil {
			return nil, err
		}
		return answer, stream.CloseSend()
	})
}
