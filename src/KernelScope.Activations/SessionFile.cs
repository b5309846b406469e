using System.Globalization;
using System.Runtime.InteropServices;
using KernelScope.Devices;
using KernelScope.Files;

namespace KernelScope.Model;

/// <summary>A session in a file: one safetensors file with the tokens and, of every layer, the keys and values that are still held.</summary>
/// <remarks>
/// <c>tokens</c> I32 [T]; <c>keys.L</c> and <c>values.L</c> F32 or BF16 [kv heads, positions, d_head], position by position, the last one T − 1: a sliding layer holds fewer than T. Metadata: format, model (<see cref="ModelIdentity"/>),
/// precision, cache_dtype, device (which kind of device wrote it; on another one the session goes on within float32 noise), context_length, chunk_length, written (<see cref="KvCache.Written"/>: where rings end). Hooks are not part of it, nor are the last logits.
/// Values are finite: what is not cannot be the cache of a run that means anything, so it is neither written nor taken.
/// Any number of threads may call it, each with a session of its own.
/// </remarks>
/// <example>
/// <code>
/// session.Save("talk.session");
/// using Session later = model.LoadSession("talk.session");   // in this process or in another one
/// </code>
/// </example>
public static class SessionFile
{
    private const string Format = "kernelscope.session.1";

    /// <summary>
    /// Writes the sequence, its keys and values to one safetensors file, which <see cref="LoadSession"/> reads in any process: it then goes on
    /// with the same bits on the same kind of device. Hooks are not part of it.
    /// </summary>
    /// <param name="session">The sequence.</param>
    /// <param name="path">Where; what is there is replaced once the file is whole.</param>
    /// <param name="cancellationToken">Stops between two layers; nothing is left.</param>
    /// <exception cref="IOException">It cannot be written, or is one of the files that the model is read from; nothing is left.</exception>
    /// <exception cref="InvalidOperationException">The session is in use, a part of its tokens ran through a part of the layers only, or its
    /// cache holds values that are not finite numbers.</exception>
    /// <exception cref="ObjectDisposedException">The session or the model was disposed.</exception>
    public static void Save(this Session session, string path, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(session);
        ArgumentException.ThrowIfNullOrEmpty(path);
        using SessionHold hold = session.Hold();
        session.Model.Weights.ThrowIfDisposed();
        session.RequireWhole();
        Write(session, session.Model.Weights.Checkpoint.NotAnInput(path), cancellationToken);
    }

    /// <summary>As <see cref="Save"/>, on a worker thread.</summary>
    public static Task SaveAsync(this Session session, string path, CancellationToken cancellationToken = default) =>
        Task.Run(() => session.Save(path, cancellationToken), cancellationToken);

    /// <summary>
    /// Reads a session that <see cref="Save"/> wrote. The file is checked as any file of a stranger; values that are not finite are refused.
    /// </summary>
    /// <exception cref="InvalidDataException">It cannot be read, is malformed, or was saved with another model, precision or type of
    /// cache; the message says which.</exception>
    /// <exception cref="ObjectDisposedException">The model was disposed.</exception>
    public static Session LoadSession(this Gemma2Model model, string path, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(model);
        ArgumentException.ThrowIfNullOrEmpty(path);
        return Read(model, path, cancellationToken);
    }

    /// <summary>As <see cref="LoadSession"/>, on a worker thread.</summary>
    /// <exception cref="InvalidDataException">As there.</exception>
    /// <exception cref="OperationCanceledException">Cancelled.</exception>
    public static Task<Session> LoadSessionAsync(this Gemma2Model model, string path, CancellationToken cancellationToken = default) =>
        Task.Run(() => model.LoadSession(path, cancellationToken), cancellationToken);

    /// <summary>Writes a session that nobody else uses.</summary>
    private static void Write(Session session, string path, CancellationToken cancellationToken)
    {
        Gemma2Model model = session.Model;
        Gemma2Config config = model.Config;
        int[] held = [.. Enumerable.Range(0, config.LayerCount).Select(l =>
            session.Position - Math.Min(session.Position, session.Cache.FirstHeld(l)))];
        var tensors = new List<TensorInfo> { new("tokens", DType.I32, [session.Position]) };
        for (int l = 0; l < config.LayerCount; l++)
            tensors.AddRange(new TensorInfo(Keys(l), session.Cache[l].Type, [config.KvHeadCount, held[l], config.HeadDim]),
                new TensorInfo(Values(l), session.Cache[l].Type, [config.KvHeadCount, held[l], config.HeadDim]));
        var metadata = new Dictionary<string, string>
        {
            ["format"] = Format,
            ["model"] = model.Identity,
            ["precision"] = Name(model.Device.Precision),
            ["cache_dtype"] = session.Cache[0].Type.ToString(),
            ["device"] = model.Device.Name.Split(':')[0],
            ["context_length"] = session.ContextLength.ToString(CultureInfo.InvariantCulture),
            ["chunk_length"] = session.ChunkLength.ToString(CultureInfo.InvariantCulture),
            ["written"] = session.Cache.Written.ToString(CultureInfo.InvariantCulture),
        };
        using var writer = new SafetensorsWriter(path, tensors, metadata);
        writer.Append(session.Tokens);
        float[] row = [];
        for (int l = 0; l < config.LayerCount; l++)
        {
            foreach (Mat ring in (Mat[])[session.Cache[l].Keys, session.Cache[l].Values])
            {
                cancellationToken.ThrowIfCancellationRequested();
                Array.Resize(ref row, held[l] * ring.Columns);
                for (int h = 0; h < config.KvHeadCount; h++)
                {
                    Move(session, l, h, held[l], (at, count, done) => model.Device.Read(ring.RowRange(at, count),
                        row.AsSpan(done * ring.Columns, count * ring.Columns)));
                    if (!Array.TrueForAll(session.Cache[l].Widened(row), float.IsFinite))
                        throw new InvalidOperationException($"The cache of layer {l} holds values that are not finite numbers: a " +
                            "weight or an edit produced them, and nothing that follows would mean anything.");
                    writer.AppendBytes(MemoryMarshal.AsBytes<float>(row));
                }
            }
        }

        writer.Commit();
    }

    /// <summary>Reads a session for a model.</summary>
    /// <exception cref="InvalidDataException">The file is malformed, or belongs to another model, precision or type of cache.</exception>
    private static Session Read(Gemma2Model model, string path, CancellationToken cancellationToken)
    {
        using SafetensorsFile file = SafetensorsFile.Open(path);
        CheckMetadata(file, model);
        int context = Number(file, "context_length", model.Config.ContextLength), chunk = Number(file, "chunk_length", context);
        int[] tokens = Tokens(file, model.Config, context);
        Session session = model.NewSession(context, chunk);
        try
        {
            int written = Number(file, "written", context, least: tokens.Length);
            if (!session.Restore(tokens, written))
                throw BadFile.At(path, $"its sliding layers reach too little back: {written} positions were written, and the sequence " +
                    $"has {tokens.Length}.");
            var names = new HashSet<string>(StringComparer.Ordinal) { "tokens" };
            for (int l = 0; l < model.Config.LayerCount; l++)
            {
                cancellationToken.ThrowIfCancellationRequested();
                Fill(file, session, l, Keys(l), session.Cache[l].Keys);
                Fill(file, session, l, Values(l), session.Cache[l].Values);
                names.Add(Keys(l));
                names.Add(Values(l));
            }

            if (file.Contents.FirstOrDefault(c => !names.Contains(c.Name)) is TensorInfo unknown)
                throw BadFile.At(path, $"the tensor {BadFile.Quote(unknown.Name)} is not part of a session.");
            return session;
        }
        catch
        {
            session.Dispose();
            throw;
        }
    }

    private static void CheckMetadata(SafetensorsFile file, Gemma2Model model)
    {
        string path = file.Path;
        string format = Text(file, "format");
        if (format != Format)
            throw BadFile.At(path, $"it is not a session that this version can read: its format is {BadFile.Quote(format)}, not " +
                $"'{Format}'.");
        if (Text(file, "model") != model.Identity)
            throw BadFile.At(path, "the session was saved with another model (or other weights of it); keys and values are of no use " +
                "there.");
        string precision = Text(file, "precision");
        if (precision != Name(model.Device.Precision))
            throw BadFile.At(path, $"the session was saved in {BadFile.Quote(precision)} precision, and this device computes in " +
                $"'{Name(model.Device.Precision)}'.");
        string type = Text(file, "cache_dtype");
        if (type != model.CacheType.ToString())
            throw BadFile.At(path, $"its keys and values are {BadFile.Quote(type)}; sessions of this model keep them as " +
                $"{model.CacheType}.");
    }

    private static int[] Tokens(SafetensorsFile file, Gemma2Config config, int context)
    {
        TensorView tensor = Tensor(file, "tokens");
        if (tensor.DType != DType.I32 || tensor.Shape.Length != 1 || tensor.Shape[0] > context)
            throw BadFile.At(file.Path, $"{tensor.Info}: tokens are I32 [T], at most the context's {context}.");
        int[] tokens = Array.ConvertAll(tensor.ToInt64s(), id => (int)id);
        int bad = Array.FindIndex(tokens, id => (uint)id >= (uint)config.VocabSize);
        return bad < 0 ? tokens : throw BadFile.At(file.Path, $"token {bad} is id {tokens[bad]}; the vocabulary has ids 0 to " +
            $"{config.VocabSize - 1}.");
    }

    private static void Fill(SafetensorsFile file, Session session, int layer, string name, Mat ring)
    {
        Gemma2Config config = session.Model.Config;
        KvLayer cache = session.Cache[layer];
        TensorView tensor = Tensor(file, name);
        int held = session.Position - session.Cache.FirstHeld(layer);
        if (tensor.DType != cache.Type || !tensor.Shape.SequenceEqual([config.KvHeadCount, held, config.HeadDim]))
            throw BadFile.At(file.Path, $"{tensor.Info}: {session.Position} tokens need {cache.Type} " +
                $"{BadFile.Shape([config.KvHeadCount, held, config.HeadDim])}.");
        float[] row = new float[held * config.HeadDim], stored = new float[held * ring.Columns];
        for (int h = 0; h < config.KvHeadCount; h++)
        {
            tensor.CopyTo((long)h * row.Length, row);
            int bad = Array.FindIndex(row, v => !float.IsFinite(v));
            if (bad >= 0)
                throw BadFile.At(file.Path, $"{BadFile.Quote(name)} holds {row[bad]} at head {h}, position " +
                    $"{session.Position - held + (bad / config.HeadDim)}; keys and values are finite numbers.");
            cache.Put(row, stored);
            Move(session, layer, h, held, (at, count, done) => session.Model.Device.Write(stored.AsSpan(done * ring.Columns,
                count * ring.Columns), ring.RowRange(at, count)));
        }
    }

    /// <summary>The runs of rows in which a ring holds the last <paramref name="held"/> positions of a head: (first row, rows, positions before it).</summary>
    private static void Move(Session session, int layer, int head, int held, Action<int, int, int> run)
    {
        int capacity = session.Cache[layer].Capacity, start = session.Position - held;
        for (int done = 0; done < held;)
        {
            int slot = (start + done) % capacity, count = Math.Min(held - done, capacity - slot);
            run((head * capacity) + slot, count, done);
            done += count;
        }
    }

    private static TensorView Tensor(SafetensorsFile file, string name) =>
        file.TryGet(name, out TensorView tensor) ? tensor : throw BadFile.At(file.Path,
            $"the tensor '{name}' is missing: this is not a whole session.");

    private static string Text(SafetensorsFile file, string key) =>
        file.Metadata.TryGetValue(key, out string? text) ? text : throw BadFile.At(file.Path,
            $"its metadata has no '{key}': this is not a session.");

    private static int Number(SafetensorsFile file, string key, int most, int least = 1) =>
        int.TryParse(Text(file, key), NumberStyles.None, CultureInfo.InvariantCulture, out int number) && number >= least && number <= most
            ? number
            : throw BadFile.At(file.Path, $"its {key} is {BadFile.Quote(Text(file, key))}; a number from {least} to {most} is expected.");

    private static string Keys(int layer) => string.Create(CultureInfo.InvariantCulture, $"keys.{layer}");

    private static string Values(int layer) => string.Create(CultureInfo.InvariantCulture, $"values.{layer}");

    private static string Name(Precision precision) => precision == Precision.Exact ? "exact" : "fast";
}
