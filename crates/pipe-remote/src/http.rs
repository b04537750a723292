//! `http://` and `https://`: one file per URL, and the requests that the hub is asked with too.

use futures_util::TryStreamExt;
use pipe_core::Error;
use reqwest::header::{AUTHORIZATION, CONTENT_ENCODING, HeaderValue};
use reqwest::{Client, Method, Response};

use crate::client::{Incoming, broken, length, refused, validator};
use crate::retry::Fault;

/// One request for a file.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) url: String,
    /// The URL for people.
    pub(crate) name: String,
    /// Sent to the URL's own host alone: a redirect to another one loses it.
    pub(crate) authorization: Option<HeaderValue>,
    /// What to do when the server lets nobody in.
    pub(crate) access: &'static str,
}

impl Request {
    /// A plain request. User and password of the URL are sent as HTTP has it.
    pub(crate) fn plain(url: &str, name: &str) -> Request {
        let access = "its user and password, or the signature in its query, are missing, wrong or expired";
        Request { url: url.to_owned(), name: name.to_owned(), authorization: None, access }
    }

    async fn send(&self, client: &Client, method: Method) -> Result<Response, Fault> {
        let mut request = client.request(method, &self.url);
        if let Some(authorization) = &self.authorization {
            request = request.header(AUTHORIZATION, authorization.clone());
        }
        request.send().await.map_err(|e| broken(&e, &self.name))
    }

    fn accept(&self, response: Response) -> Result<Response, Fault> {
        if response.status().is_success() {
            return Ok(response);
        }
        Err(refused(response.status(), response.headers(), &self.name, self.access))
    }

    /// What the server says of the file now, without its content.
    pub(crate) async fn ask(&self, client: &Client) -> Result<Option<String>, Fault> {
        let response = self.send(client, Method::HEAD).await?;
        if response.status().is_success() {
            return Ok(validator(response.headers()));
        }
        // Servers without HEAD, and signatures made for GET: its head says the same, and the body is left unread.
        if matches!(response.status().as_u16(), 400 | 401 | 403 | 405 | 501) {
            let response = self.accept(self.send(client, Method::GET).await?)?;
            return Ok(validator(response.headers()));
        }
        self.accept(response).map(|response| validator(response.headers()))
    }

    /// Starts to fetch the file.
    pub(crate) async fn open(&self, client: &Client) -> Result<Incoming, Fault> {
        let response = self.accept(self.send(client, Method::GET).await?)?;
        let headers = response.headers();
        if let Some(encoding) = headers.get(CONTENT_ENCODING).filter(|encoding| *encoding != "identity") {
            // Not asked for, and what would be stored is not the file that the name promises.
            let encoding = encoding.to_str().unwrap_or("unknown");
            return Err(Error::input(format!("cannot fetch {}: the server sends it encoded ({encoding})", self.name)).into());
        }
        let (validator, length, name) = (validator(headers), length(headers), self.name.clone());
        let chunks = response.bytes_stream().map_err(move |e| broken(&e, &name));
        Ok(Incoming { validator, length, chunks: Box::pin(chunks) })
    }

    /// The whole body, for answers that are small.
    pub(crate) async fn body(&self, client: &Client) -> Result<Vec<u8>, Fault> {
        let response = self.accept(self.send(client, Method::GET).await?)?;
        Ok(response.bytes().await.map_err(|e| broken(&e, &self.name))?.into())
    }
}
