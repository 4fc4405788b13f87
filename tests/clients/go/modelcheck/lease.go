package main

import (
	"context"
	"errors"
	"fmt"
	"sort"
	"strings"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

const (
	leaseTTL  = 3600
	leasesMax = 4
)

func (a *actor) leaseGrant(ctx context.Context) error {
	if len(a.leases) >= leasesMax {
		return a.leaseRevoke(ctx)
	}
	answer, err := a.kv().Grant(ctx, leaseTTL)
	if err != nil {
		return fmt.Errorf("lease grant: %w", err)
	}
	a.leases = append(a.leases, answer.ID)
	if answer.TTL != leaseTTL || answer.ID == 0 {
		return fmt.Errorf("lease grant: id %d, ttl %d", answer.ID, answer.TTL)
	}
	return nil
}

// leaseKeys is which live keys hang on a lease, in order.
func (a *actor) leaseKeys(lease clientv3.LeaseID) []string {
	var keys []string
	for key, kv := range a.live {
		if kv.Lease == int64(lease) {
			keys = append(keys, key)
		}
	}
	sort.Strings(keys)
	return keys
}

func (a *actor) leaseInfo(ctx context.Context) error {
	if len(a.leases) == 0 {
		_, err := a.kv().KeepAliveOnce(ctx, clientv3.LeaseID(1000+a.id))
		if !errors.Is(err, rpctypes.ErrLeaseNotFound) {
			return fmt.Errorf("keep-alive of a lease that is not there: %v", err)
		}
		return nil
	}
	lease := a.leases[a.rng.Intn(len(a.leases))]
	alive, err := a.kv().KeepAliveOnce(ctx, lease)
	if err != nil || alive.TTL != leaseTTL {
		return fmt.Errorf("keep-alive: %v, %w", alive, err)
	}
	info, err := a.kv().TimeToLive(ctx, lease, clientv3.WithAttachedKeys())
	if err != nil {
		return fmt.Errorf("time to live: %w", err)
	}
	var keys []string
	for _, key := range info.Keys {
		keys = append(keys, string(key))
	}
	sort.Strings(keys)
	want := a.leaseKeys(lease)
	if strings.Join(keys, " ") != strings.Join(want, " ") {
		return fmt.Errorf("keys of a lease: %v, want %v", keys, want)
	}
	if info.GrantedTTL != leaseTTL || info.TTL <= leaseTTL-300 || info.TTL > leaseTTL {
		return fmt.Errorf("time to live: granted %d, left %d", info.GrantedTTL, info.TTL)
	}
	return nil
}

func (a *actor) leaseRevoke(ctx context.Context) error {
	if len(a.leases) == 0 {
		_, err := a.kv().Put(ctx, a.anyKey(), "x", clientv3.WithLease(clientv3.LeaseID(2000+a.id)))
		if !errors.Is(err, rpctypes.ErrLeaseNotFound) {
			return fmt.Errorf("put with a lease that is not there: %v", err)
		}
		return nil
	}
	i := a.rng.Intn(len(a.leases))
	lease := a.leases[i]
	a.leases = append(a.leases[:i], a.leases[i+1:]...)
	keys, before := a.leaseKeys(lease), a.revision
	answer, err := a.kv().Revoke(ctx, lease)
	if err != nil {
		return fmt.Errorf("lease revoke: %w", err)
	}
	// The answer's revision is at or above that of the deletions.
	for _, key := range keys {
		a.unset(key, answer.Header.Revision, before)
	}
	if len(keys) > 0 {
		if answer.Header.Revision <= before {
			return fmt.Errorf("lease revoke of %d keys at %d after %d", len(keys), answer.Header.Revision,
				before)
		}
		a.revision = answer.Header.Revision
	}
	a.r.sawRevision(answer.Header.Revision)
	return nil
}
