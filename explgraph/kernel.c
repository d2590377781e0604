/* The E step and the search of mixture.py, compiled: see there for what is computed.

   Vectors run along the columns of a map. With the factors gx (W), gy (H) of a pattern,
   R = a / density and M_i = sum_h gy dy^i R, the count is sum_w gx M_0, and the moments are
   sum_w gx dx M_0, sum_w gx M_1 and sum_w gx (dx^2 M_0 + M_2). Every filter is summed over the
   images by one thread in one order, so results don't depend on the number of threads.

   On x86-64 the code is there for AVX-512, for AVX2 and for any processor, chosen when it is
   loaded; elsewhere the compiler's default has vectors. It needs GCC's vector types (GCC, Clang);
   where those are missing explgraph works without this file. */

#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030a0000
#include <Python.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#if !defined(__GNUC__)
#error "needs the vector types of GCC or Clang; explgraph works without this extension"
#endif

#define TINY 1e-12f /* as in mixture.py */
#define LEAST_EXPONENT (-36 * 1.44269504f)
#define RATE (-0.5f * 1.44269504f)
#define HEIGHT 0.15915494f /* 1 / (2 pi) */

/* Everything a call works on; contiguous float32 arrays with the shapes of mixture.py. */
typedef struct {
    size_t n, c, k, h, w, first, last; /* filters first <= c < last are done */
    size_t shifts;                     /* displacements per filter: 1 or k */
    const float *activations, *displacement, *mean, *sigma, *alive, *x, *y;
    float background;
    float *count, *offset, *square, *total;
    double *bound;
    float *positions, *scores;
} Job;

#define JOIN_(a, b) a##_##b
#define JOIN(a, b) JOIN_(a, b)
#define NAME(f) JOIN(f, SUFFIX)

#define WIDE 2
#define LANES 4
#define TARGET
#define SUFFIX plain
#include "kernel.h"
#undef LANES
#undef TARGET
#undef SUFFIX

#if defined(__x86_64__)
#define LANES 8
#define TARGET __attribute__((target("avx2,fma")))
#define SUFFIX avx2
#include "kernel.h"
#undef LANES
#undef TARGET
#undef SUFFIX
#undef WIDE

#define WIDE 4
#define WITH_AVX512 __attribute__((target("avx512f,avx512vl,avx512dq,avx512bw,avx2,fma")))
#define LANES 16
#define TARGET WITH_AVX512
#define SUFFIX avx512
#include "kernel.h"
#undef LANES
#undef SUFFIX
#define LANES 8 /* for maps up to 8 wide */
#define SUFFIX avx512half
#include "kernel.h"

static int level; /* 0 any processor, 1 AVX2, 2 AVX-512 */

#define CHOOSE(f, job)                                            \
    (level == 2 ? ((job)->w <= 8 ? f##_avx512half(job) : f##_avx512(job)) \
                : level ? f##_avx2(job) : f##_plain(job))
#else
static int level;
#define CHOOSE(f, job) f##_plain(job)
#endif

#define ADDRESS(x) ((void *)(uintptr_t)(x))

typedef unsigned long long Address;

static PyObject *finish(int done)
{
    if (!done) return PyErr_NoMemory();
    Py_RETURN_NONE;
}

static PyObject *summarize(PyObject *self, PyObject *args)
{
    Job job = {0};
    Address in[7], out[5];
    Py_ssize_t n, c, k, h, w, shifts, first, last;
    (void)self;
    if (!PyArg_ParseTuple(args, "nnnnnnnnfKKKKKKKKKKKK", &n, &c, &k, &h, &w, &shifts, &first, &last,
                          &job.background, in, in + 1, in + 2, in + 3, in + 4, in + 5, in + 6, out,
                          out + 1, out + 2, out + 3, out + 4))
        return NULL;
    job.n = n, job.c = c, job.k = k, job.h = h, job.w = w, job.shifts = shifts;
    job.first = first, job.last = last;
    job.activations = ADDRESS(in[0]), job.displacement = ADDRESS(in[1]);
    job.mean = ADDRESS(in[2]), job.sigma = ADDRESS(in[3]), job.alive = ADDRESS(in[4]);
    job.x = ADDRESS(in[5]), job.y = ADDRESS(in[6]);
    job.count = ADDRESS(out[0]), job.offset = ADDRESS(out[1]), job.square = ADDRESS(out[2]);
    job.total = ADDRESS(out[3]), job.bound = ADDRESS(out[4]);
    int done;
    Py_BEGIN_ALLOW_THREADS
    done = CHOOSE(summarize, &job);
    Py_END_ALLOW_THREADS
    return finish(done);
}

static PyObject *locate(PyObject *self, PyObject *args)
{
    Job job = {0};
    Address in[5], out[2];
    Py_ssize_t n, c, k, h, w, first, last;
    (void)self;
    if (!PyArg_ParseTuple(args, "nnnnnnnKKKKKKK", &n, &c, &k, &h, &w, &first, &last, in, in + 1,
                          in + 2, in + 3, in + 4, out, out + 1))
        return NULL;
    job.n = n, job.c = c, job.k = k, job.h = h, job.w = w, job.shifts = k;
    job.first = first, job.last = last;
    job.activations = ADDRESS(in[0]), job.displacement = ADDRESS(in[1]);
    job.sigma = ADDRESS(in[2]), job.x = ADDRESS(in[3]), job.y = ADDRESS(in[4]);
    job.positions = ADDRESS(out[0]), job.scores = ADDRESS(out[1]);
    int done;
    Py_BEGIN_ALLOW_THREADS
    done = CHOOSE(locate, &job);
    Py_END_ALLOW_THREADS
    return finish(done);
}

static PyMethodDef methods[] = {
    {"summarize", summarize, METH_VARARGS, "E step over some filters; arrays as addresses."},
    {"locate", locate, METH_VARARGS, "Search over some filters; arrays as addresses."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "_kernel", NULL, 0, methods, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__kernel(void)
{
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) level = 1;
    if (level && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw"))
        level = 2;
#endif
    return PyModule_Create(&module);
}
