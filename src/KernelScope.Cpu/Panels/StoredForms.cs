namespace KernelScope.Cpu.Panels;

/// <summary>How a matrix is stored, as far as products differ by it; of several matrices, the forms that there are.</summary>
[Flags]
internal enum StoredForms
{
    /// <summary>No matrix.</summary>
    None = 0,

    /// <summary>[out, in], as Gemma's matrices.</summary>
    OutputsFirst = 1,

    /// <summary>[in, out], as an SAE's W_enc.</summary>
    InputsFirst = 2,

    /// <summary>In panels (<see cref="PanelLayout"/>).</summary>
    InPanels = 4,
}
