using KernelScope.Devices;
using KernelScope.Files;

namespace KernelScope.Model;

/// <summary>The weights of one layer on a device.</summary>
/// <param name="PreAttn">input_layernorm's g, [1, d_model].</param>
/// <param name="PostAttn">post_attention_layernorm's g.</param>
/// <param name="PreMlp">pre_feedforward_layernorm's g.</param>
/// <param name="PostMlp">post_feedforward_layernorm's g.</param>
/// <param name="Qkv">q_proj, k_proj, v_proj on top of each other, [(heads + 2·kv heads)·d_head, d_model].</param>
/// <param name="O">o_proj, [d_model, heads·d_head].</param>
/// <param name="GateUp">gate_proj above up_proj, [2·d_mlp, d_model].</param>
/// <param name="Down">down_proj, [d_model, d_mlp].</param>
internal sealed record LayerWeights(Mat PreAttn, Mat PostAttn, Mat PreMlp, Mat PostMlp, Weight Qkv, Weight O, Weight GateUp, Weight Down);

/// <summary>All weights of a model on a device; owns them and the checkpoint that they may lie in.</summary>
internal sealed class Gemma2Weights : IDisposable
{
    private readonly Gemma2Checkpoint _checkpoint;
    private readonly Device _device;
    private readonly List<IDisposable> _owned = [];
    private readonly IDisposable _hold;
    private readonly string _owner;
    private int _disposed;

    private Gemma2Weights(Device device, Gemma2Checkpoint checkpoint)
    {
        _device = device;
        _checkpoint = checkpoint;
        _hold = checkpoint.HoldForModel();
        _owner = $"The model '{BadFile.Printable(checkpoint.Folder.Path, 4096)}'";
        EmbeddingType = checkpoint.Embedding.DType;
    }

    public Gemma2Checkpoint Checkpoint => _checkpoint;

    public Weight Embedding { get; private set; } = null!;

    /// <summary>The output head: the same object as <see cref="Embedding"/> where the two are tied.</summary>
    public Weight Head { get; private set; } = null!;

    public DType EmbeddingType { get; }

    public Mat FinalNorm { get; private set; }

    public LayerWeights[] Layers { get; private set; } = [];

    public static Gemma2Weights Load(Device device, Gemma2Checkpoint checkpoint, IProgress<double>? progress,
        CancellationToken cancellationToken)
    {
        var weights = new Gemma2Weights(device, checkpoint);
        try
        {
            weights.LoadAll(progress, cancellationToken);
            return weights;
        }
        catch
        {
            weights.Dispose();
            throw;
        }
    }

    /// <summary>Returns at once: an op that runs ends with what it reads, and then memory and mappings go back.</summary>
    public void Dispose()
    {
        if (Interlocked.Exchange(ref _disposed, 1) != 0)
            return;
        foreach (IDisposable owned in _owned)
            owned.Dispose();
        _device.DisposeWhenIdle(_hold);
    }

    /// <exception cref="ObjectDisposedException">The model was disposed.</exception>
    public void ThrowIfDisposed()
    {
        if (Volatile.Read(ref _disposed) != 0)
            throw new ObjectDisposedException(_owner, $"{_owner} was disposed.");
    }

    private void LoadAll(IProgress<double>? progress, CancellationToken cancellationToken)
    {
        Embedding = Matrix("embedding", new WeightPart(_checkpoint.Embedding));
        Head = _checkpoint.IsTied ? Embedding : Matrix("output head", new WeightPart(_checkpoint.OutputHead));
        FinalNorm = Gain(_checkpoint.FinalNorm, "final norm");
        Layers = new LayerWeights[_checkpoint.Config.LayerCount];
        for (int l = 0; l < Layers.Length; l++)
        {
            cancellationToken.ThrowIfCancellationRequested();
            LayerTensors t = _checkpoint.Layer(l);
            Layers[l] = new LayerWeights(
                Gain(t.InputNorm, $"layers.{l}.pre_attn"),
                Gain(t.PostAttentionNorm, $"layers.{l}.post_attn"),
                Gain(t.PreFeedForwardNorm, $"layers.{l}.pre_mlp"),
                Gain(t.PostFeedForwardNorm, $"layers.{l}.post_mlp"),
                Matrix($"layers.{l}.qkv", new WeightPart(t.Q), new WeightPart(t.K), new WeightPart(t.V)),
                Matrix($"layers.{l}.o", new WeightPart(t.O)),
                Matrix($"layers.{l}.gate_up", new WeightPart(t.Gate), new WeightPart(t.Up)),
                Matrix($"layers.{l}.down", new WeightPart(t.Down)));
            progress?.Report((l + 1.0) / Layers.Length);
        }
    }

    private Weight Matrix(string name, params ReadOnlySpan<WeightPart> parts)
    {
        Weight weight = _device.CreateWeight(name, parts);
        weight.Owner = _owner;
        _owned.Add(weight);
        return weight;
    }

    private Mat Gain(TensorView tensor, string name) => _device.CreateVector(tensor, name, _owned, _owner);
}
