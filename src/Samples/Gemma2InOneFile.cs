using System.Buffers.Binary;
using System.Globalization;
using System.Text;
using System.Text.Json;

namespace KernelScope.Samples;

/// <summary>
/// Gemma 2 in one file: settings, weights, tokenizer, forward pass and greedy decoding, with nothing but .NET's own library.
/// It is written to be read. Every sum is a plain loop in double, one token at a time; nothing is shared, blocked or parallel.
/// Gemma2InOneFile.md walks through it. A test holds its ids and logits to the library's.
/// </summary>
internal static class Gemma2InOneFile
{
    private const int EndOfText = 1;

    /// <summary>Continues a text: FOLDER (config.json, *.safetensors, tokenizer.model), TEXT, number of tokens.</summary>
    public static void Main(string[] args)
    {
        if (args.Length != 3 || !int.TryParse(args[2], NumberStyles.None, CultureInfo.InvariantCulture, out int count))
        {
            Console.Error.WriteLine("Give three arguments: a model's folder, a text, and how many tokens to add.");
            Environment.ExitCode = 2;
            return;
        }

        var tokenizer = new PlainTokenizer(File.ReadAllBytes(Path.Combine(args[0], "tokenizer.model")));
        var model = new PlainGemma2(args[0]);

        // The prompt: every token goes through the model, and only the logits after the last one are used.
        List<int> tokens = [model.Config.BosId, .. tokenizer.Encode(args[1])];
        float[] logits = [];
        foreach (int token in tokens)
            logits = model.Forward(token);

        // Greedy decoding: take the most likely token, feed it, and so on.
        for (int i = 0; i < count; i++)
        {
            int next = Array.IndexOf(logits, logits.Max());
            if (next == EndOfText)
                break;
            tokens.Add(next);
            if (i < count - 1)
                logits = model.Forward(next);
        }

        Console.WriteLine(tokenizer.Decode(tokens));
    }
}

/// <summary>The model's sizes and constants, by the names of config.json.</summary>
internal sealed class PlainConfig
{
    private readonly JsonElement _json;

    public PlainConfig(string path)
    {
        _json = JsonDocument.Parse(File.ReadAllBytes(path)).RootElement;
        ModelDim = (int)Number("hidden_size");
        MlpDim = (int)Number("intermediate_size");
        LayerCount = (int)Number("num_hidden_layers");
        HeadCount = (int)Number("num_attention_heads");
        KvHeadCount = (int)Number("num_key_value_heads");
        HeadDim = (int)Number("head_dim");
        VocabSize = (int)Number("vocab_size");
        NormEpsilon = Number("rms_norm_eps");
        Window = (int)Number("sliding_window");
        QueryScale = 1 / Math.Sqrt(Number("query_pre_attn_scalar"));
        AttentionCap = Number("attn_logit_softcapping", ifNull: 0);
        LogitCap = Number("final_logit_softcapping", ifNull: 0);
        BosId = (int)Number("bos_token_id");
        // Newer files put it into an object of its own.
        RopeTheta = _json.TryGetProperty("rope_parameters", out JsonElement rope)
            ? rope.GetProperty("rope_theta").GetDouble() : Number("rope_theta");
    }

    public int ModelDim { get; }

    public int MlpDim { get; }

    public int LayerCount { get; }

    public int HeadCount { get; }

    public int KvHeadCount { get; }

    public int HeadDim { get; }

    public int VocabSize { get; }

    public int BosId { get; }

    public int Window { get; }

    public double NormEpsilon { get; }

    public double QueryScale { get; }

    public double AttentionCap { get; }

    public double LogitCap { get; }

    public double RopeTheta { get; }

    /// <summary>Whether a layer sees only the last <see cref="Window"/> tokens: those that the file lists, else layers 0, 2, 4 and so on.</summary>
    public bool IsSliding(int layer) =>
        _json.TryGetProperty("layer_types", out JsonElement types) ? types[layer].GetString() == "sliding_attention" : layer % 2 == 0;

    private double Number(string name, double? ifNull = null) =>
        _json.TryGetProperty(name, out JsonElement value) && value.ValueKind == JsonValueKind.Number ? value.GetDouble()
            : ifNull ?? throw new InvalidDataException($"config.json has no number '{name}'.");
}

/// <summary>
/// Tensors of safetensors files, as float32. A file is: the length of the header (8 bytes), the header (JSON: name, type, shape and
/// place of each tensor), the data. The library's reader checks every number of it; this one trusts the file.
/// </summary>
internal sealed class PlainTensors
{
    private readonly Dictionary<string, (string File, JsonElement Entry, long DataStart)> _entries = [];

    public PlainTensors(string folder)
    {
        foreach (string file in Directory.GetFiles(folder, "*.safetensors"))
        {
            using FileStream stream = File.OpenRead(file);
            byte[] length = new byte[8];
            stream.ReadExactly(length);
            byte[] header = new byte[BinaryPrimitives.ReadInt64LittleEndian(length)];
            stream.ReadExactly(header);
            foreach (JsonProperty entry in JsonDocument.Parse(header).RootElement.EnumerateObject())
                _entries[entry.Name] = (file, entry.Value, 8 + header.Length);
        }
    }

    public bool Has(string name) => _entries.ContainsKey(name);

    /// <summary>A matrix [rows, columns], row after row; a vector is a matrix of one column.</summary>
    public float[] Read(string name, int rows, int columns = 1)
    {
        if (!_entries.TryGetValue(name, out (string File, JsonElement Entry, long DataStart) found))
            throw new InvalidDataException($"No safetensors file has the tensor '{name}'.");
        int[] shape = [.. found.Entry.GetProperty("shape").EnumerateArray().Select(n => n.GetInt32())];
        if (!shape.SequenceEqual(columns == 1 ? [rows] : new[] { rows, columns }))
            throw new InvalidDataException($"'{name}' has the shape [{string.Join(", ", shape)}], not [{rows}, {columns}]: {found.File}");

        string type = found.Entry.GetProperty("dtype").GetString()!;
        int size = type == "F32" ? 4 : 2;
        float[] values = new float[rows * columns];
        byte[] row = new byte[columns * size];
        using FileStream stream = File.OpenRead(found.File);
        stream.Position = found.DataStart + found.Entry.GetProperty("data_offsets")[0].GetInt64();
        for (int r = 0; r < rows; r++)
        {
            stream.ReadExactly(row);
            for (int c = 0; c < columns; c++)
                values[(r * columns) + c] = Widen(row.AsSpan(c * size), type);
        }

        return values;
    }

    /// <summary>A bfloat16 is the upper half of a float32: 16 zero bits make it one.</summary>
    private static float Widen(ReadOnlySpan<byte> bytes, string type) => type switch
    {
        "BF16" => BitConverter.Int32BitsToSingle(BinaryPrimitives.ReadUInt16LittleEndian(bytes) << 16),
        "F16" => (float)BinaryPrimitives.ReadHalfLittleEndian(bytes),
        "F32" => BinaryPrimitives.ReadSingleLittleEndian(bytes),
        _ => throw new InvalidDataException($"Tensors of type {type} are not read here."),
    };
}

/// <summary>The weights of a layer. A matrix is [outputs, inputs], so that an output is the dot product of a row with the input.</summary>
internal sealed class PlainLayer
{
    public PlainLayer(PlainTensors tensors, PlainConfig config, int layer)
    {
        int d = config.ModelDim, heads = config.HeadCount * config.HeadDim, kvHeads = config.KvHeadCount * config.HeadDim;
        InputNorm = Read("input_layernorm", d);
        Query = Read("self_attn.q_proj", heads, d);
        Key = Read("self_attn.k_proj", kvHeads, d);
        Value = Read("self_attn.v_proj", kvHeads, d);
        Output = Read("self_attn.o_proj", d, heads);
        PostAttentionNorm = Read("post_attention_layernorm", d);
        PreMlpNorm = Read("pre_feedforward_layernorm", d);
        Gate = Read("mlp.gate_proj", config.MlpDim, d);
        Up = Read("mlp.up_proj", config.MlpDim, d);
        Down = Read("mlp.down_proj", d, config.MlpDim);
        PostMlpNorm = Read("post_feedforward_layernorm", d);
        IsSliding = config.IsSliding(layer);

        float[] Read(string name, int rows, int columns = 1) => tensors.Read($"model.layers.{layer}.{name}.weight", rows, columns);
    }

    public float[] InputNorm { get; }

    public float[] Query { get; }

    public float[] Key { get; }

    public float[] Value { get; }

    public float[] Output { get; }

    public float[] PostAttentionNorm { get; }

    public float[] PreMlpNorm { get; }

    public float[] Gate { get; }

    public float[] Up { get; }

    public float[] Down { get; }

    public float[] PostMlpNorm { get; }

    public bool IsSliding { get; }

    /// <summary>The keys and values of the tokens so far, [kv heads · d_head] each: the KV cache.</summary>
    public List<float[]> Keys { get; } = [];

    public List<float[]> Values { get; } = [];
}

/// <summary>The model and one sequence: each call of <see cref="Forward"/> takes the next token.</summary>
internal sealed class PlainGemma2
{
    private readonly float[] _embedding, _head, _finalNorm;
    private readonly PlainLayer[] _layers;

    public PlainGemma2(string folder)
    {
        Config = new PlainConfig(Path.Combine(folder, "config.json"));
        var tensors = new PlainTensors(folder);
        _embedding = tensors.Read("model.embed_tokens.weight", Config.VocabSize, Config.ModelDim);
        // Gemma 2 uses the embedding as its output head; a fine-tune may have one of its own.
        _head = tensors.Has("lm_head.weight") ? tensors.Read("lm_head.weight", Config.VocabSize, Config.ModelDim) : _embedding;
        _finalNorm = tensors.Read("model.norm.weight", Config.ModelDim);
        _layers = [.. Enumerable.Range(0, Config.LayerCount).Select(layer => new PlainLayer(tensors, Config, layer))];
    }

    public PlainConfig Config { get; }

    /// <summary>Feeds a token. The result has one logit for each token of the vocabulary: how likely it comes next.</summary>
    public float[] Forward(int token)
    {
        int position = _layers[0].Keys.Count, d = Config.ModelDim;

        // The residual stream begins as the token's embedding, times √d_model.
        float[] stream = _embedding[(token * d)..((token + 1) * d)];
        for (int i = 0; i < d; i++)
            stream[i] *= MathF.Sqrt(d);

        foreach (PlainLayer layer in _layers)
        {
            // Attention reads the stream, looks at earlier tokens, and adds what it found to the stream.
            float[] x = Norm(stream, layer.InputNorm);
            float[] q = Product(layer.Query, x), k = Product(layer.Key, x), v = Product(layer.Value, x);
            Rotate(q, position);
            Rotate(k, position);
            layer.Keys.Add(k);
            layer.Values.Add(v);
            Add(stream, Norm(Product(layer.Output, Attend(q, layer)), layer.PostAttentionNorm));

            // The MLP reads the stream of this token alone, and adds to it.
            x = Norm(stream, layer.PreMlpNorm);
            float[] gate = Product(layer.Gate, x), hidden = Product(layer.Up, x);
            for (int i = 0; i < hidden.Length; i++)
                hidden[i] *= (float)Gelu(gate[i]);
            Add(stream, Norm(Product(layer.Down, hidden), layer.PostMlpNorm));
        }

        float[] logits = Product(_head, Norm(stream, _finalNorm));
        for (int i = 0; i < logits.Length; i++)
            logits[i] = (float)Cap(logits[i], Config.LogitCap);
        return logits;
    }

    /// <summary>RMS norm: x / √(mean of x² + ε), then times 1 + gain.</summary>
    private float[] Norm(float[] x, float[] gain)
    {
        double squares = 0;
        foreach (float value in x)
            squares += (double)value * value;
        double factor = 1 / Math.Sqrt((squares / x.Length) + Config.NormEpsilon);
        float[] y = new float[x.Length];
        for (int i = 0; i < x.Length; i++)
            y[i] = (float)(x[i] * factor * (1 + gain[i]));
        return y;
    }

    /// <summary>y = W x: nearly all of the time is spent in these few lines.</summary>
    private static float[] Product(float[] matrix, float[] x)
    {
        float[] y = new float[matrix.Length / x.Length];
        for (int r = 0; r < y.Length; r++)
        {
            double sum = 0;
            for (int i = 0; i < x.Length; i++)
                sum += (double)matrix[(r * x.Length) + i] * x[i];
            y[r] = (float)sum;
        }

        return y;
    }

    /// <summary>
    /// RoPE: in every head, value i and value i + d_head/2 are a point in the plane, rotated by an angle that grows with the position.
    /// The dot product of two rotated vectors then depends on how far apart their tokens are.
    /// </summary>
    private void Rotate(float[] heads, int position)
    {
        int size = Config.HeadDim, half = size / 2;
        for (int start = 0; start < heads.Length; start += size)
        {
            for (int i = 0; i < half; i++)
            {
                double angle = position * Math.Pow(Config.RopeTheta, -2.0 * i / size);
                double a = heads[start + i], b = heads[start + half + i];
                heads[start + i] = (float)((a * Math.Cos(angle)) - (b * Math.Sin(angle)));
                heads[start + half + i] = (float)((b * Math.Cos(angle)) + (a * Math.Sin(angle)));
            }
        }
    }

    /// <summary>
    /// Each query head compares itself with the keys of its group, up to this token. The softmax of the scores says how much it takes of
    /// each value.
    /// </summary>
    private float[] Attend(float[] q, PlainLayer layer)
    {
        int size = Config.HeadDim, group = Config.HeadCount / Config.KvHeadCount, count = layer.Keys.Count;
        int first = layer.IsSliding ? Math.Max(0, count - Config.Window) : 0;
        float[] z = new float[q.Length];
        for (int h = 0; h < Config.HeadCount; h++)
        {
            int start = h * size, kvStart = h / group * size;
            double[] weights = new double[count - first];
            for (int t = first; t < count; t++)
            {
                double score = 0;
                for (int i = 0; i < size; i++)
                    score += (double)q[start + i] * layer.Keys[t][kvStart + i];
                weights[t - first] = Cap(score * Config.QueryScale, Config.AttentionCap);
            }

            Softmax(weights);
            for (int i = 0; i < size; i++)
            {
                double sum = 0;
                for (int t = first; t < count; t++)
                    sum += weights[t - first] * layer.Values[t][kvStart + i];
                z[start + i] = (float)sum;
            }
        }

        return z;
    }

    private static void Softmax(double[] x)
    {
        double max = x.Max();
        for (int i = 0; i < x.Length; i++)
            x[i] = Math.Exp(x[i] - max);
        double sum = x.Sum();
        for (int i = 0; i < x.Length; i++)
            x[i] /= sum;
    }

    /// <summary>Keeps a value between −cap and cap: cap · tanh(x / cap). A cap of 0 is none.</summary>
    private static double Cap(double x, double cap) => cap > 0 ? cap * Math.Tanh(x / cap) : x;

    /// <summary>GELU, in the form with tanh.</summary>
    private static double Gelu(double x) => 0.5 * x * (1 + Math.Tanh(Math.Sqrt(2 / Math.PI) * (x + (0.044715 * x * x * x))));

    private static void Add(float[] stream, float[] branch)
    {
        for (int i = 0; i < stream.Length; i++)
            stream[i] += branch[i];
    }
}

/// <summary>
/// The tokenizer of a sentencepiece file. Its vocabulary is a list of pieces with scores. Encoding starts from single characters and
/// joins, again and again, the two neighbours whose joined piece has the highest score.
/// </summary>
internal sealed class PlainTokenizer
{
    // Kinds of pieces in the file: 1 is text, 3 is a mark such as <bos>, 4 is found whole in a text, 6 is one byte.
    private const int Text = 1, Mark = 3, Symbol = 4, Byte = 6;
    private const string Space = "\u2581";

    private readonly List<(string Piece, float Score, int Kind)> _pieces = [];
    private readonly Dictionary<string, int> _ids = [];
    private readonly string[] _symbols;

    public PlainTokenizer(byte[] file)
    {
        // Field 1 of the file, again and again, is a piece: its text, its score, its kind.
        foreach ((int field, _, ReadOnlyMemory<byte> message) in Fields(file))
        {
            if (field != 1)
                continue;
            (string Piece, float Score, int Kind) piece = ("", 0, Text);
            foreach ((int part, ulong number, ReadOnlyMemory<byte> bytes) in Fields(message))
            {
                if (part == 1)
                    piece.Piece = Encoding.UTF8.GetString(bytes.Span);
                else if (part == 2)
                    piece.Score = BitConverter.UInt32BitsToSingle((uint)number);
                else if (part == 3)
                    piece.Kind = (int)number;
            }

            _ids[piece.Piece] = _pieces.Count;
            _pieces.Add(piece);
        }

        _symbols = [.. _pieces.Where(p => p.Kind == Symbol).Select(p => p.Piece).OrderByDescending(p => p.Length)];
    }

    public List<int> Encode(string text)
    {
        List<int> ids = [];
        List<string> parts = [];
        text = text.Replace(" ", Space, StringComparison.Ordinal);
        for (int at = 0; at < text.Length;)
        {
            if (Array.Find(_symbols, s => string.CompareOrdinal(text, at, s, 0, s.Length) == 0) is string symbol)
            {
                Merge(parts, ids);
                ids.Add(_ids[symbol]);
                at += symbol.Length;
            }
            else
            {
                int length = char.IsSurrogatePair(text, at) ? 2 : 1;
                parts.Add(text.Substring(at, length));
                at += length;
            }
        }

        Merge(parts, ids);
        return ids;
    }

    /// <summary>The text of some ids: pieces are UTF-8, and several byte pieces may make one character.</summary>
    public string Decode(IEnumerable<int> ids)
    {
        List<byte> bytes = [];
        foreach (int id in ids)
        {
            (string piece, _, int kind) = _pieces[id];
            if (kind == Byte)
                bytes.Add(Convert.ToByte(piece[3..5], 16)); // <0x0A>
            else if (kind != Mark)
                bytes.AddRange(Encoding.UTF8.GetBytes(piece.Replace(Space, " ", StringComparison.Ordinal)));
        }

        return Encoding.UTF8.GetString([.. bytes]);
    }

    /// <summary>Joins neighbours until no two make a piece, then gives the ids. Of equal scores the leftmost pair goes first.</summary>
    private void Merge(List<string> parts, List<int> ids)
    {
        while (true)
        {
            int best = -1;
            float score = float.NegativeInfinity;
            for (int i = 0; i + 1 < parts.Count; i++)
            {
                if (_ids.TryGetValue(parts[i] + parts[i + 1], out int id) && _pieces[id].Kind == Text && _pieces[id].Score > score)
                    (best, score) = (i, _pieces[id].Score);
            }

            if (best < 0)
                break;
            parts[best] += parts[best + 1];
            parts.RemoveAt(best + 1);
        }

        foreach (string part in parts)
        {
            // A character that is not in the vocabulary is written as its bytes.
            if (_ids.TryGetValue(part, out int id) && _pieces[id].Kind == Text)
                ids.Add(id);
            else
                ids.AddRange(Encoding.UTF8.GetBytes(part).Select(b => _ids[$"<0x{b:X2}>"]));
        }

        parts.Clear();
    }

    /// <summary>The fields of a protocol-buffers message: a key says number and kind of each, then come its bytes.</summary>
    private static IEnumerable<(int Field, ulong Number, ReadOnlyMemory<byte> Bytes)> Fields(ReadOnlyMemory<byte> message)
    {
        for (int at = 0; at < message.Length;)
        {
            ulong key = Varint(message.Span, ref at), number = 0;
            int length = 0;
            if ((key & 7) == 0)
                number = Varint(message.Span, ref at);
            else if ((key & 7) == 2)
                length = (int)Varint(message.Span, ref at);
            else if ((key & 7) == 5)
                number = BinaryPrimitives.ReadUInt32LittleEndian(message.Span.Slice(at, length = 4));
            else
                throw new InvalidDataException($"tokenizer.model is not a sentencepiece file: the field at byte {at} has an unknown kind.");
            yield return ((int)(key >> 3), number, message.Slice(at, length));
            at += length;
        }
    }

    /// <summary>A whole number in pieces of 7 bits, the lowest first; the top bit of a byte says that more follow.</summary>
    private static ulong Varint(ReadOnlySpan<byte> bytes, ref int at)
    {
        ulong value = 0;
        for (int shift = 0; ; shift += 7)
        {
            byte b = bytes[at++];
            value |= (ulong)(b & 127) << shift;
            if (b < 128)
                return value;
        }
    }
}
