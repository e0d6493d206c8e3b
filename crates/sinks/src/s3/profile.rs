//! What differs between stores that speak S3, as data.

/// The quirks of one kind of store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Profile {
    /// The scheme of its URLs.
    pub scheme: &'static str,
    /// Its name in messages.
    pub name: &'static str,
    /// It refuses a write with `If-None-Match: *` to a key that exists. Otherwise, two writers of one key that start at
    /// the same moment are told apart only by looking first.
    pub conditional_create: bool,
    /// It checks a SHA-256 with each write (`x-amz-checksum-sha256`). Otherwise, writes carry an MD5 (`Content-MD5`),
    /// which every store checks and Object Lock requires.
    pub checksums: bool,
    /// A plain delete only hides the newest version, always.
    pub delete_hides: bool,
    /// Most parts of one upload.
    pub most_parts: u32,
    /// Least bytes of a part that is not the last one.
    pub least_part: u64,
    /// Most bytes of a part.
    pub most_part: u64,
    /// Most bytes of an object.
    pub most_object: u64,
    /// Most keys of one delete request.
    pub most_deletes: usize,
    /// Parts of one upload that are sent in parallel.
    pub parts_in_flight: usize,
    /// The region when none is given. `None`: it must be given.
    pub default_region: Option<&'static str>,
    /// Variables of the access key's id and of the secret key, in the order in which they are tried.
    pub variables: &'static [(&'static str, &'static str)],
    /// The variable of the session token, for temporary credentials.
    pub token_variable: Option<&'static str>,
    /// The variable of the region.
    pub region_variable: &'static str,
    /// The variable of the endpoint, where the environment can set one.
    pub endpoint_variable: Option<&'static str>,
    /// It aborts unfinished uploads on its own.
    pub aborts_stale_uploads: bool,
    /// Its keys can be limited to one bucket and names with one prefix.
    pub restricted_keys: bool,
    /// What the store calls the rights to write, read, list and delete.
    pub rights: Rights,
}

/// The names of rights, for messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Rights {
    /// To write an object.
    pub write: &'static str,
    /// To read an object.
    pub read: &'static str,
    /// To list objects.
    pub list: &'static str,
    /// To delete an object.
    pub delete: &'static str,
    /// To abort an upload.
    pub abort: &'static str,
    /// To list unfinished uploads.
    pub list_uploads: &'static str,
    /// To list the versions of objects.
    pub list_versions: &'static str,
    /// To delete a version of an object.
    pub delete_version: &'static str,
    /// To lock what is written.
    pub lock: &'static str,
    /// To see what holds an object.
    pub look_up_lock: &'static str,
    /// To read what the bucket does with versions.
    pub versioning: &'static str,
    /// To read the bucket's lifecycle rules.
    pub lifecycle: &'static str,
    /// To read whether the bucket locks.
    pub bucket_lock: &'static str,
}

const S3_RIGHTS: Rights = Rights {
    write: "s3:PutObject",
    read: "s3:GetObject",
    list: "s3:ListBucket",
    delete: "s3:DeleteObject",
    abort: "s3:AbortMultipartUpload",
    list_uploads: "s3:ListBucketMultipartUploads",
    list_versions: "s3:ListBucketVersions",
    delete_version: "s3:DeleteObjectVersion",
    lock: "s3:PutObjectRetention",
    look_up_lock: "s3:GetObjectRetention",
    versioning: "s3:GetBucketVersioning",
    lifecycle: "s3:GetLifecycleConfiguration",
    bucket_lock: "s3:GetBucketObjectLockConfiguration",
};

impl Profile {
    /// Amazon S3 and faithful implementations.
    pub const AWS: Self = Self {
        scheme: "s3",
        name: "S3",
        conditional_create: true,
        checksums: true,
        delete_hides: false,
        most_parts: 10_000,
        least_part: 5 << 20,
        most_part: 5 << 30,
        most_object: 5 << 40,
        most_deletes: 1000,
        parts_in_flight: 4,
        default_region: Some("us-east-1"),
        variables: &[("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")],
        token_variable: Some("AWS_SESSION_TOKEN"),
        region_variable: "AWS_REGION",
        endpoint_variable: Some("AWS_ENDPOINT_URL"),
        aborts_stale_uploads: false,
        restricted_keys: false,
        rights: S3_RIGHTS,
    };

    /// MinIO.
    pub const MINIO: Self = Self {
        scheme: "minio",
        name: "MinIO",
        aborts_stale_uploads: true,
        variables: &[("MINIO_ACCESS_KEY", "MINIO_SECRET_KEY"), ("MINIO_ROOT_USER", "MINIO_ROOT_PASSWORD")],
        token_variable: Some("MINIO_SESSION_TOKEN"),
        region_variable: "MINIO_REGION",
        endpoint_variable: None,
        ..Self::AWS
    };

    /// Backblaze B2 through its S3 interface: no conditional writes (501), no checksum headers (400), a delete hides, sizes in
    /// powers of ten.
    pub const B2: Self = Self {
        scheme: "b2",
        name: "Backblaze B2",
        conditional_create: false,
        checksums: false,
        delete_hides: true,
        least_part: 5_000_000,
        most_part: 5_000_000_000,
        most_object: 10_000_000_000_000,
        default_region: None,
        variables: &[("B2_APPLICATION_KEY_ID", "B2_APPLICATION_KEY")],
        token_variable: None,
        region_variable: "B2_REGION",
        endpoint_variable: Some("B2_ENDPOINT"),
        restricted_keys: true,
        rights: Rights {
            write: "writeFiles",
            read: "readFiles",
            list: "listFiles",
            delete: "deleteFiles",
            abort: "writeFiles",
            list_uploads: "listFiles",
            list_versions: "listFiles",
            delete_version: "deleteFiles",
            lock: "writeFileRetentions",
            look_up_lock: "readFileRetentions",
            versioning: "listBuckets",
            lifecycle: "listBuckets",
            bucket_lock: "readBucketRetentions",
        },
        ..Self::AWS
    };

    /// The region that an endpoint names: the second part of `s3.us-west-004.backblazeb2.com`.
    pub(crate) fn region_of(&self, endpoint: &str) -> Option<String> {
        let host = url::Url::parse(endpoint).ok()?.host_str()?.to_owned();
        let (region, rest) = host.strip_prefix("s3.")?.split_once('.')?;
        (self.scheme == Self::B2.scheme && rest == "backblazeb2.com").then(|| region.to_owned())
    }

    /// The profile of a scheme.
    pub(crate) fn of_scheme(scheme: &str) -> Self {
        match scheme {
            "minio" => Self::MINIO,
            "b2" => Self::B2,
            _ => Self::AWS,
        }
    }
}
