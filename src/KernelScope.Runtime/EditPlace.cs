using KernelScope.Sae;

namespace KernelScope.Runtime;

/// <summary>At which positions an edit acts.</summary>
public enum EditPlace
{
    /// <summary>At every position whose token is not BOS, on which SAEs were not trained.</summary>
    AllButBos,

    /// <summary>At every position.</summary>
    All,

    /// <summary>At the prompt's last position and every generated token.</summary>
    FromLast,
}

/// <summary>What a place means for a prompt.</summary>
internal static class EditPlaces
{
    /// <exception cref="ArgumentException">There is no such place.</exception>
    public static void Require(EditPlace place)
    {
        if (!Enum.IsDefined(place))
            throw new ArgumentException($"There is no EditPlace {(int)place}.");
    }

    public static Positions Of(this EditPlace place, int promptLength, int bosId) => place switch
    {
        EditPlace.All => Positions.All,
        EditPlace.FromLast => Positions.From(promptLength - 1),
        _ => Positions.AllBut(bosId),
    };
}
