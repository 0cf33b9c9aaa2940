//! Pixels of JPEG streams, by libjpeg-turbo.

use std::ffi::c_void;

// Only linked against: the calls are in `codec.c`.
use turbojpeg_sys as _;

use crate::{Format, ImageError, Sample, Samples, decode::broken, picture::zeroed};

/// A stream that is to be decoded.
pub struct Order<'a> {
    /// From its first marker to its last scan; the end mark may be missing.
    pub bytes: &'a [u8],
    /// Width in pixels. It is an error if the stream says otherwise, and so it is with the next three.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
    /// Samples of a pixel.
    pub components: u8,
    /// Bits of a sample, 2..=16.
    pub precision: u8,
    /// What the components are.
    pub colours: Colours,
    /// Scans after which decoding stops with an error.
    pub most_scans: u32,
    /// Called before each row of blocks; if it says to stop, that is an error.
    pub cancelled: &'a (dyn Fn() -> bool + Sync),
}

/// What the components of a stream are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Colours {
    /// Grey, RGB or inks, from the stream's own markers.
    ByMarkers = 0,
    /// Not interpreted: passed on unchanged.
    AsStored = 1,
}

/// What a stream gave.
pub struct Decoded {
    /// Grey, RGB or CMYK, interleaved; from 2..=8 bits to 8, from 9..=16 to 16.
    pub samples: Samples,
    /// What was wrong with the data, as these bits.
    pub warnings: u32,
    /// Bytes behind the last one that was read. The decoder reads up to [`AHEAD`] bytes more than it needs.
    pub unread: usize,
}

/// Bytes that libjpeg's bit buffer holds.
pub const AHEAD: usize = 8;

/// The data ended before the samples did.
pub const DATA_MISSING: u32 = 1;
/// The data had codes that are not in its tables.
pub const DATA_WRONG: u32 = 2;
/// A restart marker was missing, or another than was due.
pub const OUT_OF_STEP: u32 = 4;
/// Between two restart markers there was more data than samples.
pub const STRAY_IN_INTERVAL: u32 = 8;

#[repr(C)]
struct RawOrder {
    bytes: *const u8,
    length: usize,
    width: u32,
    height: u32,
    components: u32,
    precision: u32,
    colours: u32,
    most_scans: u32,
    cancelled: unsafe extern "C" fn(*const c_void) -> i32,
    context: *const c_void,
    samples: *mut c_void,
}

#[repr(C)]
struct RawReport {
    warnings: u32,
    unread: usize,
    /// Ends with a zero. The length is libjpeg's `JMSG_LENGTH_MAX`.
    message: [u8; 200],
}

unsafe extern "C" {
    fn enlarger_jpeg_decode(order: *const RawOrder, report: *mut RawReport) -> i32;
}

/// # Errors
/// If the stream cannot be parsed, differs from the order, or needs more memory than there is.
pub fn decode(order: &Order<'_>) -> Result<Decoded, ImageError> {
    let count = u64::from(order.width) * u64::from(order.height) * u64::from(order.components);
    if order.precision <= 8 { samples::<u8>(order, count) } else { samples::<u16>(order, count) }
}

/// That, in the depth that holds a sample.
fn samples<T: Sample>(order: &Order<'_>, count: u64) -> Result<Decoded, ImageError> {
    let mut samples = zeroed::<T>(count)?;
    let (warnings, unread) = call(order, samples.as_mut_ptr().cast(), u64::from(T::BITS / 8) * count)?;
    if order.precision < T::BITS {
        let most = (1 << order.precision) - 1;
        samples.iter_mut().for_each(|s| *s = T::from_ratio(s.value(), most));
    }
    Ok(Decoded { samples: samples.into(), warnings, unread })
}

/// # Safety
/// `context` must point to [`Order::cancelled`].
unsafe extern "C" fn is_cancelled(context: *const c_void) -> i32 {
    // SAFETY: the caller says so.
    let cancelled = unsafe { &*context.cast::<&(dyn Fn() -> bool + Sync)>() };
    cancelled().into()
}

/// Fills `samples`, which must be as long as `order` says.
fn call(order: &Order<'_>, samples: *mut c_void, bytes: u64) -> Result<(u32, usize), ImageError> {
    let raw = RawOrder {
        bytes: order.bytes.as_ptr(),
        length: order.bytes.len(),
        width: order.width,
        height: order.height,
        components: order.components.into(),
        precision: order.precision.into(),
        colours: order.colours as u32,
        most_scans: order.most_scans,
        cancelled: is_cancelled,
        context: (&raw const order.cancelled).cast(),
        samples,
    };
    let mut report = RawReport { warnings: 0, unread: 0, message: [0; 200] };
    // SAFETY: both structures are laid out as in `codec.c`, their pointers live as long as the call, and the callee writes no
    // more samples than width, height and components say, of the size that follows from the precision.
    match unsafe { enlarger_jpeg_decode(&raw, &mut report) } {
        0 => Ok((report.warnings, report.unread)),
        2 => Err(ImageError::OutOfMemory { bytes }),
        _ => {
            let message = report.message.split(|&b| b == 0).next().unwrap_or_default();
            Err(broken(Format::Jpeg, String::from_utf8_lossy(message)))
        }
    }
}
