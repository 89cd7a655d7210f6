//! What a container printed.

use std::{io::Write, time::Duration};

use http_body_util::BodyExt;

use super::{CallError, Engine};

/// Which part of a container's output is wanted.
#[derive(Clone, Copy, Debug)]
pub struct LogRequest {
    /// Whether to go on with what is printed from now on.
    pub follow: bool,
    /// Whether each line begins with its time.
    pub timestamps: bool,
    /// How many lines from the end; all where `None`.
    pub tail: Option<u32>,
}

/// The most that one frame may announce. The engine writes at most 16 KiB at once.
const MAX_FRAME: usize = 1 << 20;

impl Engine {
    /// Copies a container's output: what it printed on standard output to `out`, the rest to `err`.
    ///
    /// Returns when the output ends, or when `out` is closed.
    ///
    /// # Errors
    /// The engine refuses, or its stream breaks.
    pub async fn copy_logs(
        &self,
        id: &str,
        request: LogRequest,
        out: &mut impl Write,
        err: &mut impl Write,
    ) -> Result<(), CallError> {
        let tail = request.tail.map_or_else(|| "all".to_owned(), |lines| lines.to_string());
        let path = self.versioned(&format!(
            "/containers/{id}/logs?stdout=1&stderr=1&follow={}&timestamps={}&tail={tail}",
            u8::from(request.follow),
            u8::from(request.timestamps),
        ));
        let mut body = self.http.stream(&path, self.call.max(Duration::from_secs(5))).await?;
        let mut frames = Frames::default();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| CallError::Broken { call: path.clone(), source: error.into() })?;
            let Ok(data) = frame.into_data() else { continue };
            frames.buffer.extend_from_slice(&data);
            while let Some((stream, text)) =
                frames.next().map_err(|detail| CallError::Malformed { call: path.clone(), detail })?
            {
                let written = if stream == STDERR { err.write_all(&text) } else { out.write_all(&text) };
                if written.is_err() {
                    return Ok(());
                }
            }
            if out.flush().is_err() {
                return Ok(());
            }
        }
        Ok(())
    }
}

/// The stream number of standard error.
const STDERR: u8 = 2;

/// Takes the engine's frames apart: one byte of stream, three of nothing, four of length, the text.
#[derive(Default)]
struct Frames {
    buffer: Vec<u8>,
}

impl Frames {
    fn next(&mut self) -> Result<Option<(u8, Vec<u8>)>, String> {
        let Some((&[stream, _, _, _, a, b, c, d], rest)) = self.buffer.split_first_chunk::<8>() else {
            return Ok(None);
        };
        let length = u32::from_be_bytes([a, b, c, d]) as usize;
        if length > MAX_FRAME || stream > STDERR {
            return Err("the log stream is not framed as expected".to_owned());
        }
        if rest.len() < length {
            return Ok(None);
        }
        let text: Vec<u8> = self.buffer.drain(..8 + length).skip(8).collect();
        Ok(Some((stream, text)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_found_wherever_the_stream_was_cut() -> Result<(), String> {
        let wire = [&[1, 0, 0, 0, 0, 0, 0, 2][..], b"hi", &[2, 0, 0, 0, 0, 0, 0, 1], b"!"].concat();
        for cut in 0..wire.len() {
            let mut frames = Frames::default();
            let mut seen = Vec::new();
            for part in [&wire[..cut], &wire[cut..]] {
                frames.buffer.extend_from_slice(part);
                while let Some(frame) = frames.next()? {
                    seen.push(frame);
                }
            }
            assert_eq!(seen, [(1, b"hi".to_vec()), (2, b"!".to_vec())]);
        }
        Ok(())
    }

    #[test]
    fn a_stream_that_is_not_framed_is_an_error() {
        let mut frames = Frames { buffer: b"plain text".to_vec() };
        assert!(frames.next().is_err());
    }
}
