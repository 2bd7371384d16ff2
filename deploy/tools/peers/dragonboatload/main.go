package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/lni/dragonboat/v3"
	dbclient "github.com/lni/dragonboat/v3/client"
	"github.com/lni/dragonboat/v3/config"
	"github.com/lni/dragonboat/v3/logger"

	"github.com/multiraftd/multiraftd/deploy/tools/peers/driver"
)

// As in dragonboat's own examples: election after 2 s.
const (
	rttMillis    = 200
	electionRTT  = 10
	heartbeatRTT = 1
)

func main() { driver.Main(open) }

// cluster is three NodeHosts. The group of partition p has the id p+1, its replicas the ids 1 to 3 in the hosts' order.
type cluster struct {
	options  driver.Options
	hosts    []*dragonboat.NodeHost
	sessions []*dbclient.Session // by partition
	leaders  []*dragonboat.NodeHost
}

func open(ctx context.Context, o driver.Options) (driver.System, error) {
	for _, name := range []string{"raft", "rsm", "transport", "grpc", "dragonboat", "logdb", "config", "settings", "utils"} {
		logger.GetLogger(name).SetLevel(logger.ERROR)
	}
	c := &cluster{options: o}
	members := make(map[uint64]dragonboat.Target)
	for i, addr := range o.Addrs {
		host, err := dragonboat.NewNodeHost(config.NodeHostConfig{NodeHostDir: filepath.Join(o.Dir, fmt.Sprintf("host%d", i+1)), RTTMillisecond: rttMillis, RaftAddress: addr})
		if err != nil {
			return nil, errors.Join(err, c.Close())
		}
		c.hosts = append(c.hosts, host)
		members[uint64(i+1)] = addr
	}
	for p := range o.Partitions {
		if err := c.start(p, members); err != nil {
			return nil, errors.Join(fmt.Errorf("group %d: %w", p+1, err), c.Close())
		}
	}
	for p := range o.Partitions {
		if err := driver.Until(ctx, func() error { return c.led(ctx, p) }); err != nil {
			return nil, errors.Join(fmt.Errorf("group %d: %w", p+1, err), c.Close())
		}
	}
	return c, nil
}

// start starts the replicas of a partition's group.
func (c *cluster) start(partition int, members map[uint64]dragonboat.Target) error {
	for i, host := range c.hosts {
		err := host.StartCluster(members, false, newNothing, config.Config{NodeID: uint64(i + 1), ClusterID: uint64(partition + 1),
			ElectionRTT: electionRTT, HeartbeatRTT: heartbeatRTT, CheckQuorum: true})
		if err != nil {
			return err
		}
	}
	return nil
}

// led notes who leads a partition once a first proposal has gone through it. A leader that changes later forwards.
func (c *cluster) led(ctx context.Context, partition int) error {
	id := uint64(partition + 1)
	leader, known, err := c.hosts[0].GetLeaderID(id)
	if err != nil {
		return err
	}
	if !known {
		return errors.New("no leader")
	}
	host := c.hosts[leader-1]
	session := host.GetNoOPSession(id)
	if _, err := host.SyncPropose(ctx, session, []byte("ready")); err != nil {
		return err
	}
	c.leaders, c.sessions = append(c.leaders, host), append(c.sessions, session)
	return nil
}

// Close is part of driver.System.
func (c *cluster) Close() error {
	for _, host := range c.hosts {
		host.Stop()
	}
	return nil
}
