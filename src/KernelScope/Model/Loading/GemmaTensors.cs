using KernelScope.Files;

namespace KernelScope.Model;

/// <summary>
/// The tensors of weight files by the hub's names, whatever the writer's wrappers made of these: a bare model leaves <c>model.</c> out, <c>torch.compile</c> puts <c>_orig_mod.</c> in,
/// an adapter's wrapper <c>base_model.model.</c> and data parallelism <c>module.</c> before all, and a model with more than language in it
/// calls that part <c>language_model.</c>
/// </summary>
internal sealed class GemmaTensors
{
    private const string Compiled = "_orig_mod";
    private static readonly string[] Wrappers = ["base_model.model.", "module.", "model.", "language_model."];
    private readonly ShardedTensors _weights;
    private readonly Dictionary<string, List<string>> _stored = new(StringComparer.Ordinal);
    private readonly List<string> _remarks = [];

    /// <summary>Looks at the names only.</summary>
    /// <exception cref="InvalidDataException">One belongs to a LoRA adapter, whose matrices would have to be added to the model's.</exception>
    public GemmaTensors(ShardedTensors weights)
    {
        _weights = weights;
        string? other = null;
        foreach (string name in weights.Names)
        {
            if (name.Split('.').Any(part => part.StartsWith("lora_", StringComparison.Ordinal)))
            {
                throw BadFile.At(
                    weights.Path,
                    $"the tensor {BadFile.Quote(name)} belongs to a LoRA adapter that was not merged into the model; " +
                    "merge it first (merge_and_unload in PEFT) and save the result.");
            }

            string known = HubName(name);
            if (known != name)
                other ??= name;
            if (!_stored.TryGetValue(known, out List<string>? names))
                _stored.Add(known, names = []);
            // The hub's own spelling is the one that is read.
            names.Insert(known == name ? 0 : names.Count, name);
        }

        if (other is not null)
        {
            string known = BadFile.Printable(HubName(other), 200);
            _remarks.Add($"tensors have names of another form: {BadFile.Printable(other, 200)} is read as {known}.");
        }
    }

    /// <summary>Path of the weights, for messages.</summary>
    public string Path => _weights.Path;

    /// <summary>Every tensor: the hub's name, and the one in the files.</summary>
    public IEnumerable<(string Name, string Stored)> Names => _stored.Select(s => (s.Key, s.Value[0]));

    /// <summary>Those in a shard that the index does not name, and which do not stand for one that it names.</summary>
    public IEnumerable<(string Name, string Stored)> Unlisted =>
        _weights.Unlisted.Select(n => (Name: HubName(n), Stored: n)).Where(t => !_stored.ContainsKey(t.Name));

    /// <summary>What was found that is unusual.</summary>
    public IReadOnlyList<string> Remarks => _remarks;

    /// <summary>The hub's name for a tensor.</summary>
    public static string HubName(string name)
    {
        string rest = string.Join('.', name.Split('.').Where(part => part != Compiled));
        while (Array.Find(Wrappers, w => rest.StartsWith(w, StringComparison.Ordinal)) is string wrapper)
            rest = rest[wrapper.Length..];
        return rest.StartsWith("lm_head.", StringComparison.Ordinal) ? rest : "model." + rest;
    }

    /// <summary>The tensor with the hub's name, if there is one under any.</summary>
    /// <exception cref="InvalidDataException">It is there under two names and the two differ.</exception>
    public bool TryGet(string name, out TensorView tensor)
    {
        tensor = default;
        if (!_stored.TryGetValue(name, out List<string>? names) || !_weights.TryGet(names[0], out tensor))
            return false;
        for (int i = names.Count - 1; i > 0; i--)
        {
            _weights.TryGet(names[i], out TensorView twin);
            if (twin.DType != tensor.DType || !twin.Shape.SequenceEqual(tensor.Shape) || !twin.SameBits(tensor))
            {
                throw BadFile.At(
                    _weights.Path,
                    $"{BadFile.Quote(names[0])} and {BadFile.Quote(names[i])} both stand for {name} and differ; " +
                    "there is no way to know which is meant.");
            }

            _remarks.Add($"{BadFile.Quote(names[0])} and {BadFile.Quote(names[i])} hold the same bits: one is used.");
            names.RemoveAt(i);
        }

        return true;
    }

    /// <summary>Adds to <see cref="Remarks"/>.</summary>
    public void Remark(string sentence) => _remarks.Add(sentence);
}
