// Every kernel once over memory of exactly the size that it is given, for address and undefined-behaviour sanitizers, at sizes
// that no vector, warp or block divides. With the argument `overrun` a planted fault runs instead.
#include "emulator.cpp"

#include <cstdlib>
#include <random>
#include <string>

namespace {
std::mt19937 numbers(1);

// Memory of its own, so that a sanitizer sees its ends.
template <class T> struct Buffer {
  std::unique_ptr<T[]> at;
  explicit Buffer(size_t count) : at(std::make_unique<T[]>(count)) {
    std::normal_distribution<float> normal;
    for (size_t i = 0; i < count; i++) {
      if constexpr (std::is_integral_v<T>) at[i] = 0;
      else at[i] = narrow<T>(0.1f + 0.2f * std::fabs(normal(numbers)));
    }
  }
};

template <class T> Word word(T* pointer) { return reinterpret_cast<Word>(pointer); }
template <class T> Word word(const Buffer<T>& buffer) { return word(buffer.at.get()); }
Word word(float value) {
  Word bits = 0;
  std::memcpy(&bits, &value, sizeof value);
  return bits;
}

void run(const std::string& name, unsigned grid, unsigned threads, std::vector<Word> words) {
  const char* problem = emulator_launch(name.c_str(), grid, threads, 1, words.data(), words.size());
  if (problem) std::fprintf(stderr, "%s\n", problem), std::exit(1);
}

constexpr Word TOKENS = 37, LENGTH = 37, WIDTH = 40, VOCAB = 13, COLUMNS = 64, QUERIES = 3, KEYS = 1, SIZE = 24, GATE = 12, SMEAR = 24;

template <class S> void storage(const std::string& suffix) {
  const auto of = [&](const char* name) { return name + suffix; };
  const Word stream = TOKENS * WIDTH, heads = QUERIES + 2 * KEYS;
  Buffer<S> x(stream), y(stream), z(stream), w(stream), v(stream), table(VOCAB * WIDTH);
  Buffer<float> inverse(TOKENS), sigma(TOKENS), slopes(TOKENS), lambda(1), gate(SMEAR), partials(64 * 64), sums(SMEAR);
  Buffer<int> ids(TOKENS);
  for (Word token = 0; token < TOKENS; token++) ids.at[token] = int(token % VOCAB);
  const unsigned grid = 3;
  run(of("embed"), grid, 256, {word(table), word(ids), word(gate), word(lambda), word(x), word(inverse), word(y), word(sigma), TOKENS, LENGTH, WIDTH, SMEAR});
  run(of("norm"), grid, 256, {word(x), word(y), word(inverse), TOKENS, WIDTH});
  run(of("mix"), grid, 256, {word(x), word(y), word(lambda), word(lambda), word(z), word(w), word(inverse), TOKENS, WIDTH});
  run(of("backout"), grid, 256, {word(x), word(y), word(lambda), word(w), word(inverse), TOKENS, WIDTH});
  run(of("norm_backward"), grid, 256, {word(x), word(y), word(inverse), word(z), TOKENS, WIDTH});
  run(of("mix_backward"), grid, 256, {word(x), word(y), word(inverse), word(z), word(w), word(lambda), word(lambda), word(v), word(y), word(partials), TOKENS, WIDTH});
  run(of("backout_backward"), grid, 256, {word(x), word(y), word(inverse), word(z), word(lambda), word(w), word(v), word(partials), TOKENS, WIDTH});
  run(of("smear_slopes"), grid, 256, {word(x), word(y), word(sigma), word(lambda), word(slopes), word(partials), TOKENS, LENGTH, WIDTH});
  run(of("embed_backward"), grid, 256, {word(x), word(y), word(inverse), word(sigma), word(slopes), word(gate), word(lambda), word(w), TOKENS, LENGTH, WIDTH, SMEAR});
  run(of("add"), grid, 256, {word(x), word(y), stream});
  run(of("gate_sums"), 5, 32, {word(slopes), word(x), word(partials), TOKENS, WIDTH, 1, SMEAR});
  run("finish_sums", 3, 256, {word(partials), word(sums), 5, SMEAR, SMEAR});

  Buffer<S> qkv(TOKENS * heads * SIZE), dqkv(TOKENS * heads * SIZE), values(VOCAB * KEYS * SIZE);
  Buffer<float> cosines(LENGTH * SIZE / 2), sines(LENGTH * SIZE / 2), inverse_q(TOKENS * QUERIES), inverse_k(TOKENS * KEYS);
  Buffer<float> opened(TOKENS * KEYS), gates(TOKENS * KEYS), value_gate(KEYS * GATE);
  for (Word mixed : {0, 1}) {
    const Word rows = mixed ? word(values) : 0;
    run(of("heads"), 7, 256, {word(qkv), word(cosines), word(sines), word(inverse_q), word(inverse_k), word(x), word(value_gate), rows, word(ids), word(opened), TOKENS, LENGTH, WIDTH, QUERIES, KEYS, SIZE, GATE});
    run(of("heads_backward"), 7, 256, {word(dqkv), word(qkv), word(cosines), word(sines), word(inverse_q), word(inverse_k), rows, word(ids), word(opened), word(gates), TOKENS, LENGTH, QUERIES, KEYS, SIZE});
  }
  run(of("gate_input"), 2, 256, {word(gates), word(value_gate), word(x), TOKENS, WIDTH, KEYS, GATE});
  run(of("square"), 2, 32, {word(x), stream});
  run(of("square_backward"), 2, 32, {word(x), word(y), stream});

  Buffer<S> logits(TOKENS * COLUMNS);
  Buffer<int> targets(TOKENS);
  Buffer<float> losses(TOKENS), means(2);
  Header header{1.0f, 1, 36, 2, 1, {}};
  targets.at[5] = -1;
  for (Word training : {0, 1}) run(of("cross_entropy"), TOKENS, 32, {word(logits), word(targets), word(losses), word(&header), VOCAB, COLUMNS, training});
  Buffer<S> long_row(9000);
  run(of("cross_entropy"), 1, 256, {word(long_row), word(targets), word(losses), word(&header), 8997, 9000, 1}); // more than a block keeps
  run("mean_loss", 1, 1024, {word(losses), word(&header), word(means), TOKENS});

  Buffer<float> gradient(VOCAB * WIDTH), apart(2 * WIDTH);
  Buffer<int> order(TOKENS), pieces(12), joins(4);
  const int planned[8] = {3, 0, 20, -1, 4, 20, 37, 0}, joined[4] = {4, 0, 1, 0};
  std::memcpy(pieces.at.get(), planned, sizeof planned), std::memcpy(joins.at.get(), joined, sizeof joined);
  for (Word token = 0; token < TOKENS; token++) order.at[token] = int(TOKENS - 1 - token);
  run(of("sum_rows"), 3, 32, {word(x), 0, word(order), word(pieces), word(&header), word(apart), word(gradient), WIDTH, WIDTH, WIDTH});
  run("join_rows", 2, 256, {word(apart), word(joins), word(&header), word(gradient), WIDTH});

  for (auto [rows, columns] : {std::pair<Word, Word>{7, 5}, {5, 7}}) {
    constexpr Word COUNT = 2;
    const Word all = COUNT * rows * columns, most = COUNT * (rows > columns ? rows : columns);
    Buffer<S> update(all), copies(all);
    Buffer<float> parameters(all), slopes_of(all), momentum(all), second(most), squares(most), factors(most);
    Buffer<float> coefficients(sizeof(Coefficients) / 4);
    Member members[COUNT];
    const Word side = rows >= columns ? rows : columns, other = rows >= columns ? columns : rows;
    for (Word i = 0; i < COUNT; i++) {
      const Word start = i * rows * columns;
      members[i] = {parameters.at.get() + start, slopes_of.at.get() + start, momentum.at.get() + start, second.at.get() + i * side,
                    copies.at.get() + start};
    }
    run(of("muon_lookahead"), 2, 256, {word(members), word(coefficients), word(update), word(squares), COUNT, rows, columns});
    run("equilibrate", COUNT, 256, {word(squares), word(factors), rows, word(1.01f), word(1e-6f)});
    run(of("scale_rows"), 2, 256, {word(update), word(factors), COUNT * rows, columns});
    if (rows >= columns) run(of("row_squares"), 2, 256, {word(update), word(squares), COUNT * rows, columns});
    else run(of("column_squares"), 2, 256, {word(update), word(squares), COUNT, rows, columns});
    run("muon_second", COUNT, 256, {word(members), word(squares), word(factors), side, other, other, word(0.1f), word(1e-6f), word(1e-10f)});
    run(of("muon_update"), 2, 256, {word(members), word(coefficients), 0, word(update), word(factors), COUNT, rows, columns});
    run(of("adamw"), 1, 32, {word(parameters), word(slopes_of), word(momentum), word(squares), word(copies), word(coefficients), 2, most});
    run(of("copy_weights"), 1, 32, {word(parameters), word(copies), all});
  }
}
}  // namespace

int main(int count, char** arguments) {
  if (count > 1 && std::string(arguments[1]) == "overrun") {
    Buffer<float> out(64);
    run("planted_overrun", 1, 32, {word(out), 64});
    return 0;
  }
  storage<float>("_f32");
  storage<bf16>("_bf16");
  std::printf("every kernel ran\n");
}
