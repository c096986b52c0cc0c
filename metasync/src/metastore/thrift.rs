//! Metastores over Hive's Thrift service: 2.3, 3.1 and 4.x, plain or by TLS, with or without frames.
//!
//! Reading goes by names, a chunk a call, over several connections. Writing does change after change; each looks at what is
//! there first, so that it can be done again after a crash. Nothing here makes a server touch a file of a table: every drop
//! says so, no rename moves, and locations are read back (rule 30). What a server does beside what it was asked (statistics,
//! parameters of its own) is put right afterwards; a crash in between leaves a change half done, which doing it again mends.

mod address;
mod client;
mod connect;
pub(crate) mod convert;
mod read;
mod speaks;
#[cfg(test)]
mod tests;
mod version;
mod write;

pub use connect::{Options, Tls};

use super::{Change, Metastore, Result, Snapshot, Version};
use crate::held::Holder;
use async_trait::async_trait;
use client::Client;
use std::sync::Arc;

/// A metastore that was reached over Thrift.
#[derive(Debug)]
pub struct ThriftMetastore {
    client: Arc<Client>,
    version: Version,
}

impl ThriftMetastore {
    /// Reaches `thrift://host:port[,host:port...]` (each may have its own `thrift://`; port 9083 if none is said) and asks for
    /// its version. The first host that answers is used; the others when it does not any more.
    ///
    /// # Errors
    /// A URL that cannot be understood; nobody who answers; somebody who speaks something else, which is named; a version that
    /// is not known here.
    pub async fn open(url: &str, options: Options) -> Result<Self> {
        let client = Client::new(address::parse(url)?, options)?;
        let version = version::detect(&client).await?;
        Ok(Self { client: Arc::new(client), version })
    }

    /// Hive's version, as far as its protocol goes.
    pub fn version(&self) -> Version {
        self.version
    }
}

#[async_trait]
impl Metastore for ThriftMetastore {
    fn place(&self) -> String {
        self.client.place()
    }

    fn holder(&self) -> Holder {
        Holder::Hive(self.version)
    }

    async fn snapshot(&self) -> Result<Box<dyn Snapshot>> {
        Ok(Box::new(read::ThriftSnapshot::new(Arc::clone(&self.client), self.version)))
    }

    async fn apply(&self, changes: &[Change]) -> Result<()> {
        let read = read::ThriftSnapshot::new(Arc::clone(&self.client), self.version);
        write::apply(&read, changes).await
    }
}
