package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
	"github.com/sirupsen/logrus"
)

// partSize is what one upload of unknown length holds in memory.
const partSize = 16 << 20

// objectStore is Velero's interface of that name on an S3 server. It understands the settings of Velero's AWS plugin that
// the tests use: region, s3Url, publicUrl, s3ForcePathStyle and credentialsFile.
type objectStore struct {
	client *minio.Client
	// public is the same, with the address that signed links are made for.
	public *minio.Client
}

func newObjectStore(logrus.FieldLogger) (interface{}, error) {
	return &objectStore{}, nil
}

func (s *objectStore) Init(config map[string]string) error {
	file := config["credentialsFile"]
	if file == "" {
		file = os.Getenv("AWS_SHARED_CREDENTIALS_FILE")
	}
	keys, err := readCredentials(file)
	if err != nil {
		return err
	}
	connect := func(address string) (*minio.Client, error) {
		endpoint, err := url.Parse(address)
		if err != nil || endpoint.Host == "" {
			return nil, fmt.Errorf("%q is not the URL of an S3 server", address)
		}
		return minio.New(endpoint.Host, &minio.Options{
			Creds:        keys,
			Secure:       endpoint.Scheme == "https",
			Region:       config["region"],
			BucketLookup: minio.BucketLookupPath,
		})
	}
	if s.client, err = connect(config["s3Url"]); err != nil {
		return err
	}
	s.public = s.client
	if address := config["publicUrl"]; address != "" {
		s.public, err = connect(address)
	}
	return err
}

// readCredentials reads the two keys of an AWS credentials file, whatever its profile is called.
func readCredentials(path string) (*credentials.Credentials, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	values := map[string]string{}
	for lines := bufio.NewScanner(file); lines.Scan(); {
		if name, value, found := strings.Cut(lines.Text(), "="); found {
			values[strings.TrimSpace(name)] = strings.TrimSpace(value)
		}
	}
	id, secret := values["aws_access_key_id"], values["aws_secret_access_key"]
	if id == "" || secret == "" {
		return nil, fmt.Errorf("%s does not hold aws_access_key_id and aws_secret_access_key", path)
	}
	return credentials.NewStaticV4(id, secret, ""), nil
}

func (s *objectStore) PutObject(bucket, key string, body io.Reader) error {
	_, err := s.client.PutObject(context.Background(), bucket, key, body, -1, minio.PutObjectOptions{PartSize: partSize})
	return err
}

func (s *objectStore) ObjectExists(bucket, key string) (bool, error) {
	_, err := s.client.StatObject(context.Background(), bucket, key, minio.StatObjectOptions{})
	var answer minio.ErrorResponse
	if errors.As(err, &answer) && answer.Code == "NoSuchKey" {
		return false, nil
	}
	return err == nil, err
}

func (s *objectStore) GetObject(bucket, key string) (io.ReadCloser, error) {
	object, err := s.client.GetObject(context.Background(), bucket, key, minio.GetObjectOptions{})
	if err != nil {
		return nil, err
	}
	// Only the first request tells whether it is there.
	if _, err := object.Stat(); err != nil {
		object.Close()
		return nil, err
	}
	return object, nil
}

func (s *objectStore) ListCommonPrefixes(bucket, prefix, delimiter string) ([]string, error) {
	if delimiter != "/" {
		return nil, fmt.Errorf("the delimiter is %q; this store knows only /", delimiter)
	}
	return s.list(bucket, prefix, false, func(key string) bool { return strings.HasSuffix(key, "/") })
}

func (s *objectStore) ListObjects(bucket, prefix string) ([]string, error) {
	return s.list(bucket, prefix, true, func(string) bool { return true })
}

func (s *objectStore) list(bucket, prefix string, recursive bool, wanted func(string) bool) ([]string, error) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var keys []string
	for object := range s.client.ListObjects(ctx, bucket, minio.ListObjectsOptions{Prefix: prefix, Recursive: recursive}) {
		if object.Err != nil {
			return nil, object.Err
		}
		if wanted(object.Key) {
			keys = append(keys, object.Key)
		}
	}
	return keys, nil
}

func (s *objectStore) DeleteObject(bucket, key string) error {
	return s.client.RemoveObject(context.Background(), bucket, key, minio.RemoveObjectOptions{})
}

func (s *objectStore) CreateSignedURL(bucket, key string, ttl time.Duration) (string, error) {
	link, err := s.public.PresignedGetObject(context.Background(), bucket, key, ttl, nil)
	if err != nil {
		return "", err
	}
	return link.String(), nil
}
