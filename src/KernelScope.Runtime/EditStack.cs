using KernelScope.Model;
using KernelScope.Sae;

namespace KernelScope.Runtime;

/// <summary>The edits of a request, armed on its session in their order: those of SAEs, then vectors.</summary>
internal sealed class EditStack(IReadOnlyList<(EngineSae Sae, SaeEdit Edit)> edits, IReadOnlyList<VectorEdit> vectors, int bosId)
    : IDisposable
{
    private readonly List<IDisposable> _armed = [];

    /// <summary>Whether nothing is changed.</summary>
    public bool IsEmpty => edits.Count == 0 && vectors.Count == 0;

    public void Arm(Session session, int promptLength)
    {
        foreach ((EngineSae sae, SaeEdit edit) in edits)
        {
            Positions where = edit.Positions ?? edit.Place.Of(promptLength, bosId);
            _armed.Add(new SaeSplice(
                session.Hooks, sae.Sae, sae.Site, sae.SiteOut!.Value, edit.Splice, where, edit.Features, edit.Mean.Span));
        }

        foreach (VectorEdit vector in vectors)
        {
            Positions where = vector.Positions ?? vector.Place.Of(promptLength, bosId);
            _armed.Add(vector.Method == VectorMethod.Add
                ? new Steering(session.Hooks, session.Model.Device, vector.Point, vector.Direction.Span, vector.Strength, where)
                : new ProjectionEdit(session.Hooks, vector, where));
        }
    }

    public void Dispose()
    {
        foreach (IDisposable edit in _armed)
            edit.Dispose();
        _armed.Clear();
    }
}
