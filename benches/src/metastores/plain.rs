//! A plain Thrift client, as a script of anybody would be: one connection, one call after the other.

use super::objects;
use anyhow::{Context as _, Result, bail};
use hms::message::{Call, Reply, decode_reply, encode_call};
use hms::scan::Scanner;
use hms::{api, calls};
use metasync::model::Table;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::ops::Range;
use std::time::Duration;

/// How long the server may think.
const LIMIT: Duration = Duration::from_secs(600);
/// How many bytes are read at a time.
const READ_BYTES: usize = 64 << 10;

/// A connection without frames.
pub struct Client {
    stream: TcpStream,
    sequence: i32,
}

impl Client {
    /// Connects to `thrift://host:port`.
    pub fn connect(url: &str) -> Result<Self> {
        let address = url.strip_prefix("thrift://").with_context(|| format!("{url} is no thrift:// URL"))?;
        let stream = TcpStream::connect(address).with_context(|| format!("connect to {address}"))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(LIMIT))?;
        Ok(Self { stream, sequence: 0 })
    }

    /// Adds these partitions of a table in one call.
    pub fn add_partitions(&mut self, table: &Table, numbers: Range<usize>) -> Result<()> {
        let request = api::AddPartitionsRequest {
            db_name: Some(table.name.database.clone()),
            tbl_name: Some(table.name.table.clone()),
            parts: Some(numbers.map(|at| partition(table, at)).collect()),
            if_not_exists: Some(true),
            need_result: Some(false),
            cat_name: Some(table.name.catalog.clone()),
            ..Default::default()
        };
        self.call(&calls::AddPartitionsReq { request: Some(request) }).map(|_| ())
    }

    fn call<C: Call>(&mut self, call: &C) -> Result<C::Reply> {
        self.sequence += 1;
        self.stream.write_all(&encode_call(call, self.sequence)).context(C::NAME)?;
        let (mut reply, mut piece, mut scanner) = (Vec::new(), vec![0; READ_BYTES], Scanner::new());
        while scanner.advance(&reply)?.is_none() {
            let read = self.stream.read(&mut piece).context(C::NAME)?;
            if read == 0 {
                bail!("{}: the server closed the connection", C::NAME);
            }
            reply.extend_from_slice(&piece[..read]);
        }
        match decode_reply::<C>(&reply, self.sequence)? {
            Reply::Result(result) => Ok(result),
            Reply::Exception(exception) => bail!("{}: {exception}", C::NAME),
            Reply::Refused(refusal) => bail!("{}: {}", C::NAME, refusal.message),
        }
    }
}

fn partition(table: &Table, at: usize) -> api::Partition {
    let of = objects::partition(table, at);
    let storage = &of.storage;
    let columns = storage.columns.iter().map(|column| api::FieldSchema {
        name: Some(column.name.clone()),
        r#type: Some(column.type_name.clone()),
        ..Default::default()
    });
    let serde_info = api::SerDeInfo {
        serialization_lib: storage.serde.library.clone(),
        parameters: Some(storage.serde.parameters.clone()),
        ..Default::default()
    };
    let sd = api::StorageDescriptor {
        cols: Some(columns.collect()),
        location: storage.location.clone(),
        input_format: storage.input_format.clone(),
        output_format: storage.output_format.clone(),
        num_buckets: Some(storage.bucket_count),
        serde_info: Some(serde_info),
        bucket_cols: Some(Vec::new()),
        sort_cols: Some(Vec::new()),
        parameters: Some(Default::default()),
        ..Default::default()
    };
    api::Partition {
        values: Some(of.values),
        db_name: Some(table.name.database.clone()),
        table_name: Some(table.name.table.clone()),
        create_time: Some(of.create_time),
        sd: Some(sd),
        parameters: Some(of.parameters),
        cat_name: Some(table.name.catalog.clone()),
        ..Default::default()
    }
}
