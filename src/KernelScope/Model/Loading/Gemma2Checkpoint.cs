using KernelScope.Files;

namespace KernelScope.Model;

/// <summary>One layer's weights, in place.</summary>
/// <remarks>Immutable: any number of threads may read it.</remarks>
public readonly record struct LayerTensors
{
    internal LayerTensors(TensorView inputNorm, TensorView postAttentionNorm, TensorView preFeedForwardNorm, TensorView postFeedForwardNorm,
        TensorView q, TensorView k, TensorView v, TensorView o, TensorView gate, TensorView up, TensorView down)
    {
        InputNorm = inputNorm;
        PostAttentionNorm = postAttentionNorm;
        PreFeedForwardNorm = preFeedForwardNorm;
        PostFeedForwardNorm = postFeedForwardNorm;
        Q = q;
        K = k;
        V = v;
        O = o;
        Gate = gate;
        Up = up;
        Down = down;
    }

    /// <summary>Gain before attention [d_model]; norms multiply by 1 + gain.</summary>
    public TensorView InputNorm { get; init; }

    /// <summary>Gain on attention's output [d_model].</summary>
    public TensorView PostAttentionNorm { get; init; }

    /// <summary>Gain before the feed-forward block [d_model].</summary>
    public TensorView PreFeedForwardNorm { get; init; }

    /// <summary>Gain on the feed-forward block's output [d_model].</summary>
    public TensorView PostFeedForwardNorm { get; init; }

    /// <summary>W_Q [heads · head_dim, d_model].</summary>
    public TensorView Q { get; init; }

    /// <summary>W_K [kv_heads · head_dim, d_model].</summary>
    public TensorView K { get; init; }

    /// <summary>W_V [kv_heads · head_dim, d_model].</summary>
    public TensorView V { get; init; }

    /// <summary>W_O [d_model, heads · head_dim].</summary>
    public TensorView O { get; init; }

    /// <summary>W_gate [d_mlp, d_model].</summary>
    public TensorView Gate { get; init; }

    /// <summary>W_up [d_mlp, d_model].</summary>
    public TensorView Up { get; init; }

    /// <summary>W_down [d_model, d_mlp].</summary>
    public TensorView Down { get; init; }
}

/// <summary>
/// A Gemma 2 model's files, opened and checked: every tensor that a forward pass needs is there, with the shape that config.json implies and a type that can be computed with
/// (F32, BF16, F16; tensors may differ). Names may have the prefixes that common writers add or leave out (<c>model.</c>, <c>_orig_mod.</c>, <c>base_model.model.</c>).
/// <c>lm_head.weight</c> makes the logits where there is one; without it the embedding does. A tensor that the model does not read is refused by name
/// where it would change what is computed (a bias that is not zero, a norm of another model, parts of quantized weights), and else named among <see cref="Remarks"/>.
/// Nothing is allocated that the files do not hold: a config with a billion layers fails at the first one that is missing.
/// </summary>
/// <remarks>
/// Any number of threads may read it, load it and dispose it. The mappings live until the checkpoint was disposed, or loaded, and every model that was loaded
/// from it is disposed and has no op running.
/// </remarks>
/// <example>
/// <code>
/// var checkpoint = Gemma2Checkpoint.Open("weights/gemma-2-2b");
/// Console.WriteLine($"{checkpoint.Config.LayerCount} layers, d_model {checkpoint.Config.ModelDim}");
/// using var model = Gemma2Model.Load(device, checkpoint);  // from here on the model owns the checkpoint
/// </code>
/// </example>
public sealed class Gemma2Checkpoint : IDisposable
{
    private readonly ShardedTensors _weights;
    private readonly GemmaTensors _tensors;
    private readonly List<LayerTensors> _layers = [];
    private readonly UseCount _uses;
    private readonly List<IDisposable> _companions = [];
    private volatile bool _disposed;

    private Gemma2Checkpoint(ModelFolder folder, Gemma2Config config, ShardedTensors weights)
    {
        Folder = folder;
        Config = config;
        _weights = weights;
        _tensors = new GemmaTensors(weights);
        if ((Unread = UnreadTensors.Check(_tensors, config)) is not null)
            _tensors.Remark(Unread);
        _uses = new UseCount(folder.Path, Free);
        long model = config.ModelDim;
        Embedding = Get(TensorNames.Embedding, config.VocabSize, model);
        OutputHead = ReadHead();
        FinalNorm = Get(TensorNames.FinalNorm, model);
        for (int l = 0; l < config.LayerCount; l++)
            _layers.Add(ReadLayer(l));
    }

    /// <summary>The folder that holds the files.</summary>
    public ModelFolder Folder { get; }

    /// <summary>The model's sizes and constants, from config.json.</summary>
    public Gemma2Config Config { get; }

    /// <summary>E [vocab, d_model]: token embedding.</summary>
    public TensorView Embedding { get; }

    /// <summary>W_U [vocab, d_model]: what logits are computed with; <see cref="Embedding"/> itself where the two are tied.</summary>
    public TensorView OutputHead { get; }

    /// <summary>Whether the embedding is the output head: there is no <c>lm_head.weight</c>, or it holds the same bits.</summary>
    public bool IsTied => OutputHead.Name == Embedding.Name;

    /// <summary>Gain of the norm before the head [d_model].</summary>
    public TensorView FinalNorm { get; }

    /// <summary>Path of tokenizer.model, or of tokenizer.json if that is missing; null if the folder has neither.</summary>
    public string? TokenizerPath => Folder.TokenizerPath;

    /// <summary>Bytes of all weight files.</summary>
    public long TotalBytes => _weights.Length;

    /// <summary>Bytes of the tensors that the model computes with, each once.</summary>
    public long WeightBytes => Embedding.ByteLength + (IsTied ? 0 : OutputHead.ByteLength) + FinalNorm.ByteLength + _layers.Sum(l =>
        l.InputNorm.ByteLength + l.PostAttentionNorm.ByteLength + l.PreFeedForwardNorm.ByteLength + l.PostFeedForwardNorm.ByteLength
        + l.Q.ByteLength + l.K.ByteLength + l.V.ByteLength + l.O.ByteLength + l.Gate.ByteLength + l.Up.ByteLength + l.Down.ByteLength);

    /// <summary>What is unusual about the files and was dealt with, one sentence each: names, an output head of its own.</summary>
    public IReadOnlyList<string> Remarks => _tensors.Remarks;

    /// <summary>The sentence among <see cref="Remarks"/> that names tensors of no use to the model; null: there are none.</summary>
    internal string? Unread { get; }

    /// <summary>The mapped weight files.</summary>
    public IReadOnlyList<SafetensorsFile> Files => _weights.Files;

    /// <summary>The weights of layer l, from 0.</summary>
    public LayerTensors Layer(int l) => _layers[l];

    /// <summary>Whether the weight files were read into memory.</summary>
    internal bool IsInMemory { get; private init; }

    /// <summary>The mapped tensors.</summary>
    internal ShardedTensors Weights => _weights;

    /// <summary>Names of all matrices, in the order in which a forward pass reads them; the output head is last. An embedding that is only looked up is not among them.</summary>
    public IReadOnlyList<string> MatrixNames =>
    [
        .. _layers.SelectMany(l => (IEnumerable<string>)[l.Q.Name, l.K.Name, l.V.Name, l.O.Name, l.Gate.Name, l.Up.Name, l.Down.Name]),
        OutputHead.Name,
    ];

    /// <summary>The files that the model is read from, and those that another program, or a later run, reads with it.</summary>
    internal IEnumerable<string> InputPaths => [.. Files.Select(f => f.Path), _weights.Path, .. Folder.KnownPaths];

    /// <summary>The path, unless writing there would replace a file that the model is read from.</summary>
    /// <exception cref="IOException">It would.</exception>
    internal string NotAnInput(string path) => InputPaths.FirstOrDefault(input => FilePlace.IsSame(path, input)) is string own
        ? throw new IOException($"{BadFile.Printable(path, 4096)}: this is one of the files that the model is read from " +
            $"({BadFile.Printable(Path.GetFileName(own), 300)}); choose another place.")
        : path;

    /// <summary>Opens a model: a folder, a hub-cache entry, or a hub id, as <see cref="ModelFolder.Resolve(string)"/> takes them.</summary>
    /// <exception cref="InvalidDataException">A file is missing or malformed, or a tensor is missing or of the wrong shape or type.</exception>
    /// <param name="nameOrPath">Which.</param>
    /// <param name="intoMemory">Reads the weight files into memory instead of mapping them; see <see cref="TensorFile"/>.</param>
    public static Gemma2Checkpoint Open(string nameOrPath, bool intoMemory = false) => Open(ModelFolder.Resolve(nameOrPath), intoMemory);

    /// <summary>Opens the model of a folder.</summary>
    /// <exception cref="InvalidDataException">A file is missing or malformed, or a tensor is missing or of the wrong shape or type.</exception>
    /// <param name="folder">Which.</param>
    /// <param name="intoMemory">Reads the weight files into memory instead of mapping them; see <see cref="TensorFile"/>.</param>
    public static Gemma2Checkpoint Open(ModelFolder folder, bool intoMemory = false)
    {
        ArgumentNullException.ThrowIfNull(folder);
        folder.RefuseAdapter();
        return Open(folder, Gemma2Config.Read(folder), folder.OpenWeights(intoMemory), intoMemory);
    }

    /// <summary>A checkpoint whose weights are open already, such as an embedded one; it then owns them, also if this throws.</summary>
    internal static Gemma2Checkpoint Open(ModelFolder folder, Gemma2Config config, ShardedTensors weights, bool intoMemory = false)
    {
        try
        {
            return new Gemma2Checkpoint(folder, config, weights) { IsInMemory = intoMemory };
        }
        catch
        {
            weights.Dispose();
            throw;
        }
    }

    /// <summary>Gives the mappings back, as soon as no model that was loaded from them is left; the views are then invalid.</summary>
    public void Dispose()
    {
        _disposed = true;
        _uses.EndOwner();
    }

    /// <summary>Keeps the mappings until the result is disposed.</summary>
    /// <exception cref="ObjectDisposedException">They were given back.</exception>
    internal IDisposable Hold() => _uses.Hold();

    /// <summary>Disposes something together with the mappings: what stands in for them on a device. Comes before any model is loaded.</summary>
    internal void DisposeWithMappings(IDisposable companion) => _companions.Add(companion);

    /// <summary>As <see cref="Hold"/>, for a model that takes the checkpoint over: disposing that model is then enough.</summary>
    /// <exception cref="ObjectDisposedException">The checkpoint was disposed, or every model that was loaded from it.</exception>
    internal IDisposable HoldForModel()
    {
        ObjectDisposedException.ThrowIf(_disposed, this);
        IDisposable hold = _uses.Hold();
        _uses.EndOwner();
        return hold;
    }

    private void Free()
    {
        foreach (IDisposable companion in _companions)
            companion.Dispose();
        _weights.Dispose();
    }

    private TensorView ReadHead()
    {
        if (!_tensors.TryGet(TensorNames.OutputHead, out TensorView head))
        {
            return Config.MayTieHead
                ? Embedding
                : throw BadFile.At(_weights.Path, $"the tensor {TensorNames.OutputHead} is missing; {Folder.ConfigPath} says " +
                    "tie_word_embeddings false, so the embedding is not the output head.");
        }

        head = Get(TensorNames.OutputHead, Config.VocabSize, Config.ModelDim);
        bool same = head.DType == Embedding.DType && head.SameBits(Embedding);
        _tensors.Remark(same
            ? $"{TensorNames.OutputHead} holds the bits of {TensorNames.Embedding}: one matrix is kept."
            : $"{TensorNames.OutputHead} ({head.DType.SafetensorsName()}) is an output head of its own: it makes the logits, not the " +
                "embedding.");
        return same ? Embedding : head;
    }

    private LayerTensors ReadLayer(int l)
    {
        long model = Config.ModelDim, mlp = Config.MlpDim;
        long query = (long)Config.HeadCount * Config.HeadDim, keyValue = (long)Config.KvHeadCount * Config.HeadDim;
        return new LayerTensors(
            Get(TensorNames.InputNorm(l), model), Get(TensorNames.PostAttentionNorm(l), model),
                Get(TensorNames.PreFeedForwardNorm(l), model), Get(TensorNames.PostFeedForwardNorm(l), model),
            Get(TensorNames.Query(l), query, model), Get(TensorNames.Key(l), keyValue, model), Get(TensorNames.Value(l), keyValue, model),
                Get(TensorNames.Output(l), model, query),
            Get(TensorNames.Gate(l), mlp, model), Get(TensorNames.Up(l), mlp, model), Get(TensorNames.Down(l), model, mlp));
    }

    private TensorView Get(string name, params ReadOnlySpan<long> shape)
    {
        if (!_tensors.TryGet(name, out TensorView tensor))
            throw BadFile.At(_weights.Path, $"the tensor {name} is missing; {Folder.ConfigPath} asks for {Config.LayerCount} layers.");
        if (!tensor.Shape.SequenceEqual(shape))
            throw BadFile.At(tensor.File, $"the tensor {BadFile.Printable(tensor.Name, 200)} is {BadFile.Shape(tensor.Shape)}; " +
                $"config.json implies {BadFile.Shape(shape)}.");
        return tensor.DType is DType.F32 or DType.BF16 or DType.F16 ? tensor
            : throw BadFile.At(tensor.File, $"the tensor {BadFile.Printable(tensor.Name, 200)} is {tensor.DType.SafetensorsName()}; " +
            "weights are F32, BF16 or F16.");
    }
}
