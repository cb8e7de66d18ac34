/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "image/record.h"

#include <string.h>

#include "base/le.h"
#include "base/paths.h"

/* Fixed part: u32 length, u8 type, u8 flags, u16 name bytes, u32 mode, u32 uid, u32 gid, u32 mtime
 * ns, s64 mtime s, u64 size, u64 link id, u32 xattr bytes, u32 extents, u16 target bytes, 6 zeros.
 * Then name and target together, padded to 8; extended attributes, padded to 8; extents. */

static uint32_t pad8(uint32_t n) { return (n + 7) & ~7u; }

uint32_t record_encode(uint8_t *out, const struct record *r, const struct extent *ext)
{
    uint32_t strings = pad8((uint32_t)r->name_bytes + r->target_bytes), xattrs = pad8(r->xattr_bytes);
    uint32_t length = RECORD_FIXED + strings + xattrs + r->extent_count * EXTENT_BYTES;
    memset(out, 0, RECORD_FIXED + strings);
    put32(out, length);
    out[4] = r->type;
    out[5] = r->flags;
    put16(out + 6, r->name_bytes);
    put32(out + 8, r->mode);
    put32(out + 12, r->uid);
    put32(out + 16, r->gid);
    put32(out + 20, r->mtime_ns);
    put64(out + 24, (uint64_t)r->mtime_s);
    put64(out + 32, r->size);
    put64(out + 40, r->link_id);
    put32(out + 48, r->xattr_bytes);
    put32(out + 52, r->extent_count);
    put16(out + 56, r->target_bytes);
    uint8_t *at = out + RECORD_FIXED;
    if (r->name_bytes)
        memcpy(at, r->name, r->name_bytes);
    if (r->target_bytes)
        memcpy(at + r->name_bytes, r->target, r->target_bytes);
    at += strings;
    memset(at, 0, xattrs);
    if (r->xattr_bytes)
        memcpy(at, r->xattrs, r->xattr_bytes);
    at += xattrs;
    for (uint32_t i = 0; i < r->extent_count; i++, at += EXTENT_BYTES) {
        put64(at, ext[i].file_offset);
        put64(at + 8, ext[i].length);
        put64(at + 16, ext[i].data_offset);
    }
    return length;
}

struct extent record_extent(const struct record *r, uint32_t i)
{
    const uint8_t *e = r->extents + (size_t)i * EXTENT_BYTES;
    return (struct extent){get64(e), get64(e + 8), get64(e + 16)};
}

int record_xattr(const struct record *r, uint32_t *at, struct xattr *x)
{
    if (*at >= r->xattr_bytes)
        return 0;
    const uint8_t *e = r->xattrs + *at;
    uint32_t name = get16(e);
    memcpy(x->name, e + 8, name);
    x->name[name] = 0;
    x->value = e + 8 + name;
    x->value_bytes = get32(e + 4);
    *at += (8 + name + x->value_bytes + 3) & ~3u;
    return 1;
}

/* Checks the name of an attribute that a record sets: it must be in one of these four name
 * spaces. */
static int xattr_name_ok(const uint8_t *name, uint32_t n)
{
    static const char *const spaces[] = {"user.", "trusted.", "security.", "system.posix_acl_"};
    if (n > MAX_NAME || memchr(name, 0, n))
        return 0;
    for (int i = 0; i < 4; i++)
        if (n > strlen(spaces[i]) && memcmp(name, spaces[i], strlen(spaces[i])) == 0)
            return 1;
    return 0;
}

static const char *check_xattrs(const struct record *r)
{
    uint32_t at = 0;
    while (at < r->xattr_bytes) {
        uint32_t left = r->xattr_bytes - at;
        if (left < 8)
            return "a record contains an incomplete extended attribute";
        uint32_t name = get16(r->xattrs + at), value = get32(r->xattrs + at + 4);
        if (value > 65536 || 8 + name + value > left)
            return "a record contains an extended attribute of invalid length";
        if (!xattr_name_ok(r->xattrs + at + 8, name))
            return "a record contains an extended attribute with an invalid name";
        at += (8 + name + value + 3) & ~3u;
    }
    return at == r->xattr_bytes ? NULL : "a record contains an incomplete extended attribute";
}

static const char *check_extents(const struct record *r)
{
    uint64_t file = 0, data = 0;
    for (uint32_t i = 0; i < r->extent_count; i++) {
        struct extent e = record_extent(r, i);
        if (e.length == 0 || e.file_offset < file || e.data_offset < data || !fits(e.file_offset, e.length, INT64_MAX) ||
            !fits(e.data_offset, e.length, INT64_MAX))
            return "the extents of a file overlap or are out of bounds";
        file = e.file_offset + e.length;
        data = e.data_offset + e.length;
    }
    return NULL;
}

/* Checks what a record of each type may contain. */
static const char *check_type(const struct record *r)
{
    int named = r->type != RECORD_UP && r->type != RECORD_EXTENTS;
    int may_be_root = r->type == RECORD_DIR || r->type == RECORD_FILE;
    if (r->type < RECORD_DIR || r->type > RECORD_EXTENTS)
        return "a record has an unknown type";
    if (r->name_bytes ? !named || !component_ok(r->name, r->name_bytes) : named && !may_be_root)
        return "a record contains an invalid file name";
    if (r->type == RECORD_SYMLINK ? r->target_bytes == 0 || memchr(r->target, 0, r->target_bytes) != NULL : r->target_bytes != 0)
        return "a record contains an invalid symbolic link target";
    if (r->extent_count && r->type != RECORD_FILE && r->type != RECORD_EXTENTS)
        return "a record contains file data, but does not describe a file";
    if (r->xattr_bytes && (!named || r->type == RECORD_LINK))
        return "a record contains extended attributes, but its type can't have any";
    if ((r->flags & RECORD_MORE) && r->type != RECORD_FILE && r->type != RECORD_EXTENTS)
        return "a record announces more file data, but does not describe a file";
    if ((r->flags & RECORD_LINKED) && (!named || r->type == RECORD_DIR || r->type == RECORD_LINK))
        return "a record announces hard links, but its type can't have any";
    return NULL;
}

const char *record_decode(const uint8_t *p, size_t left, struct record *r)
{
    if (left < RECORD_FIXED)
        return "a record runs past the end of its chunk";
    memset(r, 0, sizeof *r);
    r->length = get32(p);
    r->type = p[4];
    r->flags = p[5];
    r->name_bytes = get16(p + 6);
    r->mode = get32(p + 8);
    r->uid = get32(p + 12);
    r->gid = get32(p + 16);
    r->mtime_ns = get32(p + 20);
    r->mtime_s = (int64_t)get64(p + 24);
    r->size = get64(p + 32);
    r->link_id = get64(p + 40);
    r->xattr_bytes = get32(p + 48);
    r->extent_count = get32(p + 52);
    r->target_bytes = get16(p + 56);
    if (r->name_bytes > MAX_NAME || r->target_bytes > MAX_PATH || r->xattr_bytes > MAX_XATTR_BYTES ||
        r->extent_count > MAX_EXTENTS || r->mode > 07777 || r->mtime_ns > 999999999 || r->size > INT64_MAX ||
        r->uid == UINT32_MAX || r->gid == UINT32_MAX || (r->flags & ~(RECORD_LINKED | RECORD_MORE)))
        return "a record contains a number that is out of bounds";
    uint32_t strings = pad8((uint32_t)r->name_bytes + r->target_bytes), xattrs = pad8(r->xattr_bytes);
    if (r->length != RECORD_FIXED + strings + xattrs + r->extent_count * EXTENT_BYTES || r->length > left)
        return "a record has an invalid length";
    r->name = (const char *)p + RECORD_FIXED;
    r->target = r->name + r->name_bytes;
    r->xattrs = p + RECORD_FIXED + strings;
    r->extents = r->xattrs + xattrs;
    const char *bad = check_type(r);
    if (!bad)
        bad = check_xattrs(r);
    return bad ? bad : check_extents(r);
}
