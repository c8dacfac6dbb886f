// Attention of cuDNN behind a C interface: causal, grouped queries, a sliding window, over packed rows of queries, keys and
// values, in bf16 with sums in f32. cuDNN is loaded when it is asked for, and the CUDA runtime with it, so that the program starts
// without either. Every function gives back 0, or 1 and the reason in `attention_problem`.
#define NV_CUDNN_FRONTEND_USE_DYNAMIC_LOADING
#include <cudnn_frontend.h>

#include <cmath>
#include <memory>
#include <string>
#include <unordered_map>

namespace fe = cudnn_frontend;
using Graph = fe::graph::Graph;
using Tensor = fe::graph::Tensor_attributes;

// What the headers look cuDNN's functions up in.
void* cudnn_frontend::cudnn_dlhandle = nullptr;

// `AttentionShape` in attention.rs.
struct AttentionShape {
  int64_t rows, length, heads, key_heads, size;
  int64_t window; // tokens before a query that it sees
};

namespace {
enum Id : int64_t { QUERIES = 1, KEYS, VALUES, OUT, LOG_SUM, DOUT, DQUERIES, DKEYS, DVALUES };

thread_local std::string problem;

int fail(const std::string& reason) {
  problem = reason;
  return 1;
}

// Runs `work`, which gives back an error of the headers' own type.
template <class Work> int guarded(Work work) {
  try {
    fe::error_t error = work();
    return error.is_bad() ? fail(error.get_message()) : 0;
  } catch (const std::exception& exception) {
    return fail(exception.what());
  } catch (...) {
    return fail("an exception of an unknown type");
  }
}

int64_t packed_width(const AttentionShape& shape) { return (shape.heads + 2 * shape.key_heads) * shape.size; }

// Heads of a buffer whose tokens are `width` elements apart, as cuDNN counts dimensions: rows, heads, tokens, channels.
Tensor& describe(Tensor& tensor, Id id, const AttentionShape& shape, int64_t heads, int64_t width) {
  return tensor.set_uid(id)
      .set_dim({shape.rows, heads, shape.length, shape.size})
      .set_stride({shape.length * width, shape.size, width, 1});
}

Tensor heads(const char* name, Id id, const AttentionShape& shape, int64_t count, int64_t width) {
  Tensor tensor;
  tensor.set_name(name);
  return describe(tensor, id, shape, count, width);
}

Tensor& describe_log_sum(Tensor& tensor, const AttentionShape& shape) {
  const int64_t row = shape.heads * shape.length;
  return tensor.set_uid(LOG_SUM)
      .set_dim({shape.rows, shape.heads, shape.length, 1})
      .set_stride({row, shape.length, 1, 1})
      .set_data_type(fe::DataType_t::FLOAT);
}

// What both passes are told of the mask. cuDNN's left bound counts the query itself.
template <class Options> void mask(Options& options, const AttentionShape& shape) {
  options.set_attn_scale(1.0f / std::sqrt(static_cast<float>(shape.size)))
      .set_diagonal_alignment(fe::DiagonalAlignment_t::TOP_LEFT)
      .set_diagonal_band_right_bound(0);
  if (shape.window + 1 < shape.length) options.set_diagonal_band_left_bound(static_cast<int>(shape.window + 1));
}

void forward(Graph& graph, const AttentionShape& shape) {
  const int64_t width = packed_width(shape);
  auto q = graph.tensor(heads("queries", QUERIES, shape, shape.heads, width));
  auto k = graph.tensor(heads("keys", KEYS, shape, shape.key_heads, width));
  auto v = graph.tensor(heads("values", VALUES, shape, shape.key_heads, width));
  fe::graph::SDPA_attributes options;
  options.set_name("attention").set_generate_stats(true);
  mask(options, shape);
  auto [out, log_sum] = graph.sdpa(q, k, v, options);
  describe(out->set_output(true), OUT, shape, shape.heads, shape.heads * shape.size);
  describe_log_sum(log_sum->set_output(true), shape);
}

void backward(Graph& graph, const AttentionShape& shape, bool deterministic) {
  const int64_t width = packed_width(shape), out_width = shape.heads * shape.size;
  auto q = graph.tensor(heads("queries", QUERIES, shape, shape.heads, width));
  auto k = graph.tensor(heads("keys", KEYS, shape, shape.key_heads, width));
  auto v = graph.tensor(heads("values", VALUES, shape, shape.key_heads, width));
  auto out = graph.tensor(heads("out", OUT, shape, shape.heads, out_width));
  auto dout = graph.tensor(heads("dout", DOUT, shape, shape.heads, out_width));
  Tensor sums;
  sums.set_name("log_sum");
  auto log_sum = graph.tensor(describe_log_sum(sums, shape));
  fe::graph::SDPA_backward_attributes options;
  options.set_name("attention_backward").set_deterministic_algorithm(deterministic);
  mask(options, shape);
  auto [dq, dk, dv] = graph.sdpa_backward(q, k, v, out, dout, log_sum, options);
  describe(dq->set_output(true), DQUERIES, shape, shape.heads, width);
  describe(dk->set_output(true), DKEYS, shape, shape.key_heads, width);
  describe(dv->set_output(true), DVALUES, shape, shape.key_heads, width);
}

using Addresses = std::unordered_map<int64_t, void*>;

// Where queries, keys and values begin in packed rows of bf16.
void put_packed(Addresses& at, const AttentionShape& shape, void* packed, Id queries, Id keys, Id values) {
  char* begin = static_cast<char*>(packed);
  const int64_t head = shape.size * 2;
  at[queries] = begin;
  at[keys] = begin + shape.heads * head;
  at[values] = begin + (shape.heads + shape.key_heads) * head;
}
}  // namespace

struct AttentionPlan {
  AttentionShape shape;
  Graph graph;
};

extern "C" {
// The reason of this thread's last failure.
const char* attention_problem() { return problem.c_str(); }

// Loads cuDNN by the name of its library, once.
int attention_load(const char* library) {
  if (fe::cudnn_dlhandle) return 0;
  dlerror();
  fe::cudnn_dlhandle = dlopen(library, RTLD_NOW | RTLD_GLOBAL);
  if (fe::cudnn_dlhandle) return 0;
  const char* reason = dlerror();
  return fail(reason ? reason : "the loader gave no reason");
}

// cuDNN's version: 91900 is 9.19.0.
int attention_version(size_t* version) {
  return guarded([&]() -> fe::error_t {
    *version = fe::detail::get_backend_version();
    return {};
  });
}

// A handle for a stream of the current context.
int attention_open(void* stream, void** handle) {
  return guarded([&]() -> fe::error_t {
    cudnnHandle_t opened = nullptr;
    if (fe::detail::create_handle(&opened) != CUDNN_STATUS_SUCCESS)
      return {fe::error_code_t::HANDLE_ERROR, "cuDNN gives no handle"};
    if (fe::detail::set_stream(opened, static_cast<cudaStream_t>(stream)) != CUDNN_STATUS_SUCCESS) {
      fe::detail::destroy_handle(opened);
      return {fe::error_code_t::HANDLE_ERROR, "cuDNN doesn't take the stream"};
    }
    *handle = opened;
    return {};
  });
}

void attention_close(void* handle) {
  guarded([&]() -> fe::error_t {
    fe::detail::destroy_handle(static_cast<cudnnHandle_t>(handle));
    return {};
  });
}

// Builds what computes one pass of one shape, and says how many bytes of workspace it takes.
int attention_plan(void* handle, const AttentionShape* shape, int backwards, int deterministic, AttentionPlan** plan,
                   int64_t* workspace) {
  return guarded([&]() -> fe::error_t {
    auto built = std::make_unique<AttentionPlan>();
    built->shape = *shape;
    built->graph.set_io_data_type(fe::DataType_t::BFLOAT16)
        .set_intermediate_data_type(fe::DataType_t::FLOAT)
        .set_compute_data_type(fe::DataType_t::FLOAT);
    backwards ? backward(built->graph, *shape, deterministic != 0) : forward(built->graph, *shape);
    auto error = built->graph.build(static_cast<cudnnHandle_t>(handle), {fe::HeurMode_t::A, fe::HeurMode_t::FALLBACK});
    if (error.is_good()) error = built->graph.get_workspace_size(*workspace);
    if (error.is_good()) *plan = built.release();
    return error;
  });
}

void attention_free(AttentionPlan* plan) { delete plan; }

int attention_forward(void* handle, AttentionPlan* plan, void* qkv, void* out, void* log_sum, void* workspace) {
  return guarded([&] {
    Addresses at = {{OUT, out}, {LOG_SUM, log_sum}};
    put_packed(at, plan->shape, qkv, QUERIES, KEYS, VALUES);
    return plan->graph.execute(static_cast<cudnnHandle_t>(handle), at, workspace);
  });
}

int attention_backward(void* handle, AttentionPlan* plan, void* qkv, void* out, void* log_sum, void* dout, void* dqkv,
                       void* workspace) {
  return guarded([&] {
    Addresses at = {{OUT, out}, {LOG_SUM, log_sum}, {DOUT, dout}};
    put_packed(at, plan->shape, qkv, QUERIES, KEYS, VALUES);
    put_packed(at, plan->shape, dqkv, DQUERIES, DKEYS, DVALUES);
    return plan->graph.execute(static_cast<cudnnHandle_t>(handle), at, workspace);
  });
}
}
