//! The Windows calls that no safe crate offers: who runs a process, which program it is, whether
//! it has ended, and who owns a pipe.
//!
//! This is the one file of the workspace with unsafe code. Every function takes and returns plain
//! values; handles are owned by the standard library's types.

#![allow(
    unsafe_code,
    reason = "tokens, SIDs and process handles are reached by the Windows API only"
)]

use std::{
    ffi::c_void,
    io,
    os::windows::io::{AsHandle, AsRawHandle as _, FromRawHandle as _, OwnedHandle},
    ptr,
};

use windows_sys::{
    Win32::{
        Foundation::{ERROR_SUCCESS, LocalFree, WAIT_OBJECT_0, WAIT_TIMEOUT},
        Security::{
            Authorization::{ConvertSidToStringSidW, GetSecurityInfo, SE_KERNEL_OBJECT},
            GetTokenInformation, OWNER_SECURITY_INFORMATION, PSID, TOKEN_ELEVATION_TYPE,
            TOKEN_INFORMATION_CLASS, TOKEN_QUERY, TOKEN_USER, TokenElevationType,
            TokenElevationTypeFull, TokenUser,
        },
        System::Threading::{
            OpenProcess, OpenProcessToken, PROCESS_NAME_WIN32, PROCESS_QUERY_LIMITED_INFORMATION,
            PROCESS_SYNCHRONIZE, QueryFullProcessImageNameW, WaitForSingleObject,
        },
    },
    core::PWSTR,
};

/// A process, pinned: its number is not given to another one while this exists.
#[derive(Debug)]
pub struct Process(OwnedHandle);

impl Process {
    /// Opens the process with this number.
    ///
    /// # Errors
    ///
    /// There is none (`ERROR_INVALID_PARAMETER`), or it is closed to us.
    pub fn open(pid: u32) -> io::Result<Self> {
        let rights = PROCESS_QUERY_LIMITED_INFORMATION | PROCESS_SYNCHRONIZE;
        // SAFETY: takes no pointers.
        let handle = unsafe { OpenProcess(rights, 0, pid) };
        if handle.is_null() {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the call succeeded, so the handle is open, and it was made for us.
        Ok(Self(unsafe { OwnedHandle::from_raw_handle(handle) }))
    }

    /// The SID of the user that the process runs as.
    ///
    /// # Errors
    ///
    /// Its token is closed to us.
    pub fn user(&self) -> io::Result<String> {
        let token = self.token()?;
        // The SID is behind the struct, in the same buffer.
        let mut buffer = [0_u64; 16];
        // SAFETY: TokenUser fills in a TOKEN_USER; u64 is as strictly aligned as its pointer.
        unsafe {
            query(
                &token,
                TokenUser,
                buffer.as_mut_ptr().cast(),
                size_of_val(&buffer),
            )?
        };
        // SAFETY: filled in by the call above, which checks the size, and aligned.
        let user = unsafe { buffer.as_ptr().cast::<TOKEN_USER>().read() };
        // SAFETY: the SID lies in `buffer`, which is alive.
        unsafe { sid_text(user.User.Sid) }
    }

    /// Whether the process got more rights than its user usually has, by UAC's consent prompt.
    ///
    /// # Errors
    ///
    /// Its token is closed to us.
    pub fn is_elevated(&self) -> io::Result<bool> {
        let token = self.token()?;
        let mut kind: TOKEN_ELEVATION_TYPE = 0;
        let size = size_of_val(&kind);
        // SAFETY: TokenElevationType fills in a TOKEN_ELEVATION_TYPE.
        unsafe { query(&token, TokenElevationType, (&raw mut kind).cast(), size)? };
        Ok(kind == TokenElevationTypeFull)
    }

    /// The path of the program that the process runs.
    ///
    /// # Errors
    ///
    /// It has ended, or has a path of more than 32,767 characters.
    pub fn executable(&self) -> io::Result<String> {
        let mut buffer = vec![0_u16; 32_768];
        let mut length = buffer.len() as u32;
        // SAFETY: `length` is that of the buffer, and both are alive during the call.
        let done = unsafe {
            QueryFullProcessImageNameW(
                self.0.as_raw_handle(),
                PROCESS_NAME_WIN32,
                buffer.as_mut_ptr(),
                &raw mut length,
            )
        };
        if done == 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(String::from_utf16_lossy(&buffer[..length as usize]))
    }

    /// Whether the process has ended.
    ///
    /// # Errors
    ///
    /// None is known of.
    pub fn has_exited(&self) -> io::Result<bool> {
        // SAFETY: the handle is open as long as `self` is.
        match unsafe { WaitForSingleObject(self.0.as_raw_handle(), 0) } {
            WAIT_OBJECT_0 => Ok(true),
            WAIT_TIMEOUT => Ok(false),
            _ => Err(io::Error::last_os_error()),
        }
    }

    fn token(&self) -> io::Result<OwnedHandle> {
        let mut token = ptr::null_mut();
        // SAFETY: the process is open as long as `self` is, and `token` takes the new handle.
        let done = unsafe { OpenProcessToken(self.0.as_raw_handle(), TOKEN_QUERY, &raw mut token) };
        if done == 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the call succeeded, so the handle is open, and it was made for us.
        Ok(unsafe { OwnedHandle::from_raw_handle(token) })
    }
}

/// The SID of the owner of a pipe, which its maker chose among the users that it may act for.
///
/// # Errors
///
/// The handle may not read that.
pub fn owner(pipe: impl AsHandle) -> io::Result<String> {
    let mut sid: PSID = ptr::null_mut();
    let mut descriptor = ptr::null_mut();
    // SAFETY: the handle is borrowed for the call; null is allowed for what we do not want.
    let error = unsafe {
        GetSecurityInfo(
            pipe.as_handle().as_raw_handle(),
            SE_KERNEL_OBJECT,
            OWNER_SECURITY_INFORMATION,
            &raw mut sid,
            ptr::null_mut(),
            ptr::null_mut(),
            ptr::null_mut(),
            &raw mut descriptor,
        )
    };
    if error != ERROR_SUCCESS {
        return Err(io::Error::from_raw_os_error(error as i32));
    }
    let text = if sid.is_null() {
        Err(io::Error::other("the pipe has no owner"))
    } else {
        // SAFETY: the SID lies in `descriptor`, which is freed below.
        unsafe { sid_text(sid) }
    };
    // SAFETY: made for us by GetSecurityInfo, which says to free it so; `sid` is not used again.
    unsafe { LocalFree(descriptor) };
    text
}

/// Asks for a piece of a token.
///
/// # Safety
///
/// `size` bytes at `into` may be written, as what `class` stands for.
unsafe fn query(
    token: &OwnedHandle,
    class: TOKEN_INFORMATION_CLASS,
    into: *mut c_void,
    size: usize,
) -> io::Result<()> {
    let mut written = 0;
    // SAFETY: the caller vouches for `into` and `size`; the token is open.
    let done = unsafe {
        GetTokenInformation(
            token.as_raw_handle(),
            class,
            into,
            size as u32,
            &raw mut written,
        )
    };
    if done == 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// A SID as it is written: `S-1-5-..`.
///
/// # Safety
///
/// `sid` points to a valid SID.
unsafe fn sid_text(sid: PSID) -> io::Result<String> {
    let mut text: PWSTR = ptr::null_mut();
    // SAFETY: the caller vouches for the SID; `text` takes the new string.
    if unsafe { ConvertSidToStringSidW(sid, &raw mut text) } == 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call made a string that ends with NUL.
    let characters = unsafe {
        let length = (0..).take_while(|index| *text.add(*index) != 0).count();
        std::slice::from_raw_parts(text, length)
    };
    let copy = String::from_utf16_lossy(characters);
    // SAFETY: made for us by ConvertSidToStringSidW, which says to free it so; not used again.
    unsafe { LocalFree(text.cast()) };
    Ok(copy)
}
