// Posts a file to a URL by net/http, twice over one connection, and prints the second answer.
package main

import (
	"bytes"
	"io"
	"log"
	"net/http"
	"os"
	"time"
)

func main() {
	content, err := os.ReadFile(os.Args[2])
	if err != nil {
		log.Fatal(err)
	}
	var body []byte
	client := http.Client{Timeout: 20 * time.Second}
	for range 2 {
		answer, err := client.Post(os.Args[1], "application/json", bytes.NewReader(content))
		if err != nil {
			log.Fatal(err)
		}
		content, err := io.ReadAll(answer.Body)
		if err != nil {
			log.Fatal(err)
		}
		answer.Body.Close()
		body = content
	}
	os.Stdout.Write(body)
}
