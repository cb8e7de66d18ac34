/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Single files, directories, links and device nodes of an item that is being restored. */
#ifndef BUILD_FILE_H
#define BUILD_FILE_H

#include "restore/build_state.h"

struct build_file *build_file_new(struct build *b, const struct record *r, struct build_dir *dir, int root);
int build_file_open(struct build *b, struct build_file *f);   /* 0, or the item is marked */
void build_file_write(struct build *b, struct build_file *f, struct iovec *part, int parts, uint64_t at); /* uses up part */
uint64_t build_file_span(const struct build_file *f); /* see struct build_big */
void build_file_size(struct build *b, struct build_file *f);  /* sets the final size now */
void build_file_release(struct build *b, struct build_file *f);
struct build_dir *build_dir_new(struct build *b, const struct record *r, int fd, int root);
void build_dir_release(struct build *b, struct build_dir *d);
void build_special(struct build *b, const struct record *r, struct build_dir *dir);
void build_link_first(struct build *b, const struct record *r, struct build_dir *dir); /* gives it its name among the links */
void build_link(struct build *b, const struct record *r, struct build_dir *dir);

#endif
