using KernelScope.Devices;
using KernelScope.Files;
using KernelScope.Hooks;
using KernelScope.Sae;

namespace KernelScope.Training.Runs;

/// <summary>
/// What one shard writes: a file for each site, and codes of each SAE. After a chunk of the forward pass the sites are written side by
/// side, by the device's threads.
/// </summary>
internal sealed class ShardRows : IDisposable
{
    private readonly RunFolder _folder;
    private readonly RunPlan _plan;
    private readonly int _shard;
    private readonly List<SiteRows> _sites = [];
    private readonly List<CodeRows> _codes = [];
    private readonly Exception?[] _failures;

    public ShardRows(RunFolder folder, RunPlan plan, int shard, int rows, int chunkLength, IReadOnlyList<JumpReluSae> saes)
    {
        (_folder, _plan, _shard) = (folder, plan, shard);
        _failures = new Exception?[plan.Sites.Count + plan.Saes.Count];
        try
        {
            foreach (SiteRecord site in plan.Sites)
                _sites.Add(new SiteRows(folder.At(RunFolder.Acts(site.Name, shard)), site, plan.RowType, rows, chunkLength,
                    SiteRows.Metadata(plan, shard, site.Name, plan.RowType)));
            for (int i = 0; i < saes.Count; i++)
                _codes.Add(new CodeRows(plan.Saes[i], saes[i]));
        }
        catch
        {
            Dispose();
            throw;
        }
    }

    /// <summary>Takes the values of every forward call until the result is disposed.</summary>
    public IDisposable Listen(HookSet hooks)
    {
        var armed = new List<IDisposable>();
        foreach (SiteRows site in _sites)
            armed.Add(hooks.Add(site.Site.Point, (call, _, value) => site.Read(call, value)));
        foreach (CodeRows codes in _codes)
            armed.Add(hooks.Add(codes.Record.Site, (call, _, value) => codes.Encode(call, value)));
        return new Armed(armed);
    }

    /// <summary>Writes what the last call left.</summary>
    /// <param name="device">Its threads write.</param>
    /// <param name="keeps">For each row of the call, whether it is kept.</param>
    /// <param name="sequence">Number of the sequence.</param>
    /// <param name="position">Position of the first row.</param>
    public void Append(Device device, bool[] keeps, long sequence, int position)
    {
        device.ForEach(_failures.Length, unit =>
        {
            try
            {
                if (unit < _sites.Count)
                    _sites[unit].Append(keeps, sequence, position);
                else
                    _codes[unit - _sites.Count].Append(keeps);
            }
            catch (Exception e) when (e is IOException or InvalidDataException or NotFiniteException)
            {
                _failures[unit] = e;
            }
        });
        if (Array.Find(_failures, f => f is not null) is Exception failure)
            throw failure is NotFiniteException ? new InvalidDataException(failure.Message, failure) : failure;
    }

    /// <summary>Ends all files and gives them their names.</summary>
    public (Dictionary<string, SiteManifest> Sites, Dictionary<string, CodesManifest> Codes) Place(int[] sequence, int[] position,
        int[] token)
    {
        Dictionary<string, SiteManifest> sites = _sites.ToDictionary(s => s.Site.Name, s => s.Place(sequence, position, token));
        return (sites, _codes.ToDictionary(c => c.Record.Id, c => c.Place(_folder, _shard,
            SiteRows.Metadata(_plan, _shard, c.Record.Site.ToString(), DType.F32), sequence, position, token)));
    }

    public void Dispose()
    {
        _sites.ForEach(s => s.Dispose());
        _codes.ForEach(c => c.Dispose());
    }

    private sealed class Armed(List<IDisposable> hooks) : IDisposable
    {
        public void Dispose() => hooks.ForEach(h => h.Dispose());
    }
}
