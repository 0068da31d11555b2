// yamux_peer is hashicorp's yamux at the other end of a test: it dials ADDRESS and is the session's ROLE there.
//
//	yamux_peer ROLE ADDRESS echo            accept streams, send back what comes, to its end
//	yamux_peer ROLE ADDRESS idle            accept nothing
//	yamux_peer ROLE ADDRESS call N SIZE     open N streams at once, send SIZE bytes on each, expect them back
//
// ROLE is client or server, in yamux's sense. `call` says "ok" and sends a go-away before it leaves; whatever goes
// wrong is said on standard error, with exit status 1.
package main

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"io"
	"log"
	"net"
	"os"
	"strconv"
	"sync"

	"github.com/hashicorp/yamux"
)

func main() {
	log.SetFlags(0)
	role, address, mode := os.Args[1], os.Args[2], os.Args[3]
	connection, err := net.Dial("tcp", address)
	check(err)
	var session *yamux.Session
	if role == "client" {
		session, err = yamux.Client(connection, nil)
	} else {
		session, err = yamux.Server(connection, nil)
	}
	check(err)

	switch mode {
	case "idle":
		<-session.CloseChan()
	case "echo":
		for {
			stream, err := session.AcceptStream()
			if err != nil {
				return
			}
			go func() {
				io.Copy(stream, stream)
				stream.Close()
			}()
		}
	case "call":
		streams, err := strconv.Atoi(os.Args[4])
		check(err)
		size, err := strconv.Atoi(os.Args[5])
		check(err)
		var calls sync.WaitGroup
		for i := 0; i < streams; i++ {
			calls.Add(1)
			go func() {
				defer calls.Done()
				call(session, size)
			}()
		}
		_, err = session.Ping()
		check(err)
		calls.Wait()
		check(session.GoAway())
		_, err = session.Ping()
		check(err)
		fmt.Println("ok")
	default:
		log.Fatalf("no mode %q", mode)
	}
}

func call(session *yamux.Session, size int) {
	stream, err := session.OpenStream()
	check(err)
	said := make([]byte, size)
	_, err = rand.Read(said)
	check(err)
	go func() {
		_, err := stream.Write(said)
		check(err)
	}()
	heard := make([]byte, size)
	_, err = io.ReadFull(stream, heard)
	check(err)
	if !bytes.Equal(said, heard) {
		log.Fatalf("stream %d: the echo differs", stream.StreamID())
	}
	// hashicorp's Close ends both directions for its caller, so it comes last; the echo answers with its own end.
	check(stream.Close())
	if n, err := stream.Read(heard); n != 0 || err != io.EOF {
		log.Fatalf("stream %d: %d bytes and %v behind the end", stream.StreamID(), n, err)
	}
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
